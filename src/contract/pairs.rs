//! Two lists of named things side by side: the step that every comparison of two contracts takes.
//!
//! It pairs signatures, or fields, by their names, tells which have no other half, and builds the path of names that a message shows. It
//! knows nothing of what a difference means; that is `compare.rs` and `change.rs`.
//!
//! What must stay true: the first list's order, then what only the second has; and no work that grows faster than the lists, because either
//! may be a stranger's.

use std::collections::{BTreeMap, VecDeque};

use super::contract::{Field, Signature, shown};

/// The longest path that is shown; of a longer one the middle is left out.
const PATH_CHARACTERS_MAX: usize = 400;

/// What a list is paired by.
pub(super) trait Named {
    /// The name.
    fn name(&self) -> &str;
}

impl Named for Signature {
    fn name(&self) -> &str {
        &self.name
    }
}

impl Named for Field {
    fn name(&self) -> &str {
        &self.name
    }
}

/// What two lists have under one name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pair<'a, T> {
    /// Both have it.
    Both(&'a T, &'a T),
    /// Only the first has it.
    First(&'a T),
    /// Only the second has it.
    Second(&'a T),
}

/// Two lists side by side.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pairs<'a, T> {
    /// In the first list's order, then what only the second has.
    pub pairs: Vec<Pair<'a, T>>,
    /// Whether what both have stands in another order in the second.
    pub reordered: bool,
}

/// Pairs two lists. Where a name is in one list twice, which no valid contract has, the first goes with the first.
pub(super) fn pairs<'a, T: Named>(first: &'a [T], second: &'a [T]) -> Pairs<'a, T> {
    let mut places: BTreeMap<&str, VecDeque<usize>> = BTreeMap::new();
    for (place, item) in second.iter().enumerate() {
        places.entry(item.name()).or_default().push_back(place);
    }
    let mut pairs = Vec::with_capacity(first.len());
    let mut paired = vec![false; second.len()];
    let (mut last, mut reordered) = (0, false);
    for item in first {
        let Some(place) = places.get_mut(item.name()).and_then(VecDeque::pop_front) else {
            pairs.push(Pair::First(item));
            continue;
        };
        reordered |= place < last;
        last = place;
        paired[place] = true;
        pairs.push(Pair::Both(item, &second[place]));
    }
    pairs.extend(second.iter().zip(paired).filter(|(_, paired)| !paired).map(|(item, _)| Pair::Second(item)));
    Pairs { pairs, reordered }
}

/// The path of a name below another path: `infer.inputs` and `x` are `infer.inputs.x`.
pub(super) fn below(path: &str, name: &str) -> String {
    let path = format!("{path}.{}", shown(name));
    let characters = path.chars().count();
    if characters <= PATH_CHARACTERS_MAX {
        return path;
    }
    let half = PATH_CHARACTERS_MAX / 2;
    path.chars().take(half).chain(['…']).chain(path.chars().skip(characters - half + 1)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::contract::Shape;
    use super::super::dtype::DataType;
    use super::*;

    fn fields(names: &[&str]) -> Vec<Field> {
        names.iter().map(|name| Field::new(name, DataType::Float, Shape::Any)).collect()
    }

    #[track_caller]
    fn check(first: &[&str], second: &[&str], expected: &str, reordered: bool) {
        let (first, second) = (fields(first), fields(second));
        let found = pairs(&first, &second);
        let words = found.pairs.iter().map(|pair| match pair {
            Pair::Both(first, second) => format!("{}={}", first.name, second.name),
            Pair::First(first) => format!("-{}", first.name),
            Pair::Second(second) => format!("+{}", second.name),
        });
        assert_eq!((words.collect::<Vec<_>>().join(" ").as_str(), found.reordered), (expected, reordered));
    }

    #[test]
    fn names_are_paired_in_the_first_lists_order() {
        check(&[], &[], "", false);
        check(&["a", "b", "c"], &["d", "a", "c", "e"], "a=a -b c=c +d +e", false);
        check(&["a", "b"], &["b", "a"], "a=a b=b", true);
        check(&["a", "a", "b"], &["a", "b", "b"], "a=a -a b=b +b", false);
    }

    #[test]
    fn a_path_shows_its_beginning_and_its_end() {
        assert_eq!(below("infer.inputs", "x\n"), "infer.inputs.x\\n");
        let long = (0..1000).fold("infer.inputs".to_owned(), |path, _| below(&path, "level"));
        let long = below(&long, "leaf");
        assert_eq!(long.chars().count(), PATH_CHARACTERS_MAX);
        assert!(long.starts_with("infer.inputs.level.") && long.contains('…') && long.ends_with(".leaf"), "{long}");
    }
}
