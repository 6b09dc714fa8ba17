//! Which operations a TensorFlow has, asked of that TensorFlow itself.
//!
//! The lists are written by `base-images/serving-runtime-tensorflow/operations.py` for the versions that have a runtime, and are compiled in. Of a version
//! without a list nothing is known, and nothing is said.

use std::collections::BTreeSet;
use std::sync::LazyLock;

const LISTS: [&str; 1] = [include_str!("../../base-images/serving-runtime-tensorflow/operations-2.21.txt")];

/// A TensorFlow's operations.
#[derive(Debug)]
pub struct Registry {
    /// Its version: `2.21.0`.
    pub version: &'static str,
    /// The version of graphs that it is the consumer of (`GRAPH_DEF_VERSION`).
    pub graph_def_version: i64,
    /// The names.
    pub names: BTreeSet<&'static str>,
}

static REGISTRIES: LazyLock<Vec<Registry>> = LazyLock::new(|| LISTS.iter().map(|list| read(list)).collect());

fn read(list: &'static str) -> Registry {
    let mut registry = Registry { version: "", graph_def_version: 0, names: BTreeSet::new() };
    for line in list.lines().filter(|line| !line.starts_with('#')) {
        match line.split_once(' ') {
            Some(("tensorflow", version)) => registry.version = version,
            Some((_, number)) => registry.graph_def_version = number.parse().unwrap_or_default(),
            None => drop(registry.names.insert(line)),
        }
    }
    registry
}

/// The operations of the TensorFlow with this version, by its first two numbers; `None` where there is no list.
pub fn of(version: &str) -> Option<&'static Registry> {
    let minor = |version: &str| version.split('.').take(2).map(|number| number.parse().ok()).collect::<Option<Vec<u32>>>();
    let wanted = minor(version)?;
    REGISTRIES.iter().find(|registry| minor(registry.version).as_ref() == Some(&wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_that_of_its_version() {
        let registry = of("2.21").unwrap();
        assert!(registry.names.contains("MatMul") && registry.names.contains("StatefulPartitionedCall") && registry.names.len() > 1_000);
        assert!(registry.graph_def_version > 2_000 && of("2.21.7").is_some());
        assert!(of("1.13").is_none() && of("").is_none());
    }
}
