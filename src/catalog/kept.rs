//! What the catalog still needs of the store: for a collection of what nothing needs.
//!
//! A version needs the tree of its files whatever has become of its build, and its tag in the embedded registry. A version that was removed needs
//! neither; that it *was* removed follows from its number having been given. A number that this catalog has not given says nothing: the catalog may be
//! younger than the store, or restored from a copy, and what it does not know of is not its to give away.
//!
//! Also what the next version takes over of the ones before: the lock of its requirements.
//!
//! What must stay true: numbers are read before versions, so that a version which is made in between is not taken for one that was removed.

use std::collections::{BTreeMap, BTreeSet};

use tokio_stream::StreamExt as _;

use super::catalog::{Catalog, CatalogError, failed};
use super::versions::{get, read_digest};
use crate::oci::digest::Digest;

/// The versions that are there, and what was given.
#[derive(Clone, Debug, Default)]
pub struct KeptVersions {
    given: BTreeMap<String, i64>,
    versions: BTreeSet<(String, i64)>,
    /// The trees of all versions.
    pub trees: BTreeSet<Digest>,
}

impl KeptVersions {
    /// Whether `tag` in the repository of `model` is a version that was there once and was removed.
    pub fn is_removed(&self, model: &str, tag: &str) -> bool {
        let Some(number) = tag.parse::<i64>().ok().filter(|number| number.to_string() == tag) else { return false };
        let given = self.given.get(model).is_some_and(|last| (1..=*last).contains(&number));
        given && !self.versions.contains(&(model.to_owned(), number))
    }
}

impl Catalog {
    /// The lock that the model's newest version with these requirements was built with.
    pub async fn last_lock(&self, model: &str, made_from: &Digest) -> Result<Option<String>, CatalogError> {
        let query = "SELECT json_extract(v.report_json, '$.requirements.lock') FROM model_version v JOIN model m ON m.id = v.model_id \
            WHERE m.name = $1 AND json_extract(v.report_json, '$.requirements.made_from') = $2 ORDER BY v.number DESC LIMIT 1";
        let query = sqlx::query_scalar::<_, Option<String>>(query).bind(model).bind(made_from.to_string());
        Ok(query.fetch_optional(self.reader()).await.map_err(failed("look for a lock"))?.flatten())
    }

    /// What all versions need.
    pub async fn kept_versions(&self) -> Result<KeptVersions, CatalogError> {
        let operation = "list what versions need";
        let query = sqlx::query_as::<_, (String, i64)>("SELECT model_name, last_number FROM numbering");
        let given = query.fetch_all(self.reader()).await.map_err(failed(operation))?.into_iter().collect();
        let mut kept = KeptVersions { given, ..KeptVersions::default() };
        let query = "SELECT m.name AS model, v.number, b.tree_digest FROM model_version v JOIN model m ON m.id = v.model_id \
            JOIN build b ON b.version_id = v.id";
        let mut rows = sqlx::query(query).fetch(self.reader());
        while let Some(row) = rows.next().await {
            let row = row.map_err(failed(operation))?;
            kept.trees.insert(read_digest(&get::<String>(&row, "tree_digest")?, "tree_digest")?);
            kept.versions.insert((get(&row, "model")?, get(&row, "number")?));
        }
        Ok(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::super::queue::tests::{catalog, new_version};
    use super::*;

    #[tokio::test]
    async fn a_version_is_removed_when_it_was_given_and_is_not_there() {
        let (_folder, catalog) = catalog().await;
        for _ in 0..2 {
            catalog.create_version(new_version("m")).await.unwrap();
        }
        let kept = catalog.kept_versions().await.unwrap();
        assert_eq!(kept.trees, BTreeSet::from([Digest::of(b"m")]));
        assert!(!kept.is_removed("m", "1") && !kept.is_removed("m", "2"));
        catalog.remove_model(catalog.model("m").await.unwrap().id).await.unwrap();
        catalog.create_version(new_version("m")).await.unwrap();
        let kept = catalog.kept_versions().await.unwrap();
        assert!(kept.is_removed("m", "1") && kept.is_removed("m", "2") && !kept.is_removed("m", "3"));
        for (model, tag) in [("m", "4"), ("m", "0"), ("m", "01"), ("m", "+1"), ("m", "latest"), ("other", "1")] {
            assert!(!kept.is_removed(model, tag), "{model}:{tag} is nothing that the catalog knows of");
        }
    }
}
