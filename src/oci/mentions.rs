//! What a manifest names, read from its bytes alone, whatever kind of manifest they are.
//!
//! [`digests`] is every digest that stands anywhere in the document: an image's config and layers, an index's manifests, the blobs of an artifact
//! manifest that we have no view of. It errs towards too many (a digest in an annotation counts), because what is named is kept. [`referral`] is the
//! `subject` of a manifest, and how the manifest is listed among its referrers.
//!
//! What must stay true: nothing that a client can find in a manifest is missing from [`digests`]; and reading takes no memory beyond them.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::digest::Digest;
use super::manifest::{Descriptor, Document};

/// Every digest in a JSON document. A document nested deeper than serde_json goes (128) is refused as one that is no JSON.
pub fn digests(bytes: &[u8]) -> Result<BTreeSet<Digest>, serde_json::Error> {
    let mut found = BTreeSet::new();
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    Collect(&mut found).deserialize(&mut reader)?;
    reader.end()?;
    Ok(found)
}

/// Adds the strings that are digests, and passes over everything else.
struct Collect<'a>(&'a mut BTreeSet<Digest>);

impl<'de> DeserializeSeed<'de> for Collect<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Collect<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.0.extend(text.parse::<Digest>());
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(Collect(self.0))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while members.next_key_seed(Collect(self.0))?.is_some() {
            members.next_value_seed(Collect(self.0))?;
        }
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// A manifest about another one: a signature, an SBOM.
#[derive(Clone, Debug, PartialEq)]
pub struct Referral {
    /// What it is about; that manifest need not be there (distribution-spec, "Push").
    pub subject: Digest,
    /// How it is listed among the subject's referrers.
    pub descriptor: Descriptor,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct View {
    subject: Option<Descriptor>,
    artifact_type: Option<String>,
    config: Option<ConfigView>,
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConfigView {
    media_type: Option<String>,
}

/// What the manifest says of its subject; `None` where it has none. An error is a `subject` that is no descriptor.
///
/// The listing's `artifactType` is the manifest's own or, where that is missing or empty, its config's type; an index has no config, and then it is
/// left out (distribution-spec, "Listing Referrers").
pub fn referral(document: &Document) -> Result<Option<Referral>, serde_json::Error> {
    let view: View = serde_json::from_slice(&document.bytes)?;
    let Some(subject) = view.subject else { return Ok(None) };
    let own = view.artifact_type.filter(|text| !text.is_empty());
    let artifact_type = own.or_else(|| view.config?.media_type);
    let mut descriptor = document.descriptor();
    descriptor.annotations = view.annotations.unwrap_or_default();
    descriptor.rest.extend(artifact_type.map(|text| ("artifactType".to_owned(), Value::String(text))));
    Ok(Some(Referral { subject: subject.digest, descriptor }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_digest_is_found_wherever_it_stands() {
        let [a, b, c] = [b"a", b"b", b"c"].map(|bytes| Digest::of(bytes));
        let document = json!({
            "config": {"digest": a, "size": 1, "float": 1.5, "negative": -1}, "list": [[{"digest": b}], null, true],
            c.to_string(): "sha256:12", "other": "sha512:00",
        });
        assert_eq!(digests(document.to_string().as_bytes()).unwrap(), BTreeSet::from([a, b, c]));
        assert_eq!(digests(b"[]").unwrap(), BTreeSet::new());
        for wrong in ["{", "{} {}", "", &"[".repeat(100_000)] {
            assert!(digests(wrong.as_bytes()).is_err(), "{wrong:.20}");
        }
    }

    #[test]
    fn a_referrer_is_listed_as_the_specification_says() {
        let subject = Digest::of(b"image");
        let listed = |mut document: Value| {
            document["subject"] = json!({"mediaType": "m", "digest": subject, "size": 5});
            let document = Document::new("application/x", document.to_string().into_bytes());
            let referral = referral(&document).unwrap().unwrap();
            assert_eq!((referral.subject, referral.descriptor.digest), (subject, document.digest));
            (referral.descriptor.rest.get("artifactType").cloned(), referral.descriptor.annotations)
        };
        let kind = |text: &str| Some(Value::from(text));
        let config = json!({"mediaType": "of/config", "digest": subject, "size": 1});
        assert_eq!(listed(json!({"artifactType": "own", "config": config, "annotations": {"k": "v"}})).0, kind("own"));
        assert_eq!(listed(json!({"artifactType": "", "config": config})).0, kind("of/config"));
        assert_eq!(listed(json!({"config": config})).0, kind("of/config"));
        assert_eq!(listed(json!({"manifests": []})).0, None);
        assert_eq!(listed(json!({"annotations": {"k": "v"}})).1, BTreeMap::from([("k".to_owned(), "v".to_owned())]));
        let document = |text: &str| Document::new("m", text.as_bytes().to_vec());
        assert_eq!(referral(&document("{}")).unwrap(), None);
        assert!(referral(&document(r#"{"subject": {"mediaType": "m", "digest": "sha512:00", "size": 1}}"#)).is_err());
    }
}
