//! The table of faults in `docs/reference/registries.md`: each has tests, and each test that it names is there.

use std::collections::BTreeSet;
use std::fs;

use crate::support::hs::project;

#[test]
fn every_fault_has_its_tests() {
    let text = fs::read_to_string(project("docs/reference/registries.md")).unwrap();
    let table = text.split_once("\n## What may go wrong").unwrap().1;
    let table = table.split_once("\n### ").map_or(table, |(table, _)| table);
    let rows: Vec<Vec<&str>> = table
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| what goes wrong"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    assert!(rows.len() > 30, "{}", rows.len());
    let mut named = BTreeSet::new();
    for row in &rows {
        assert_eq!(row.len(), 3, "{row:?}");
        let tests: Vec<&str> = row[2].split('`').filter(|word| word.contains("::")).collect();
        assert!(!tests.is_empty(), "{row:?} names no test");
        named.extend(tests);
    }
    for test in &named {
        let (module, name) = test.split_once("::").unwrap();
        let source = fs::read_to_string(project(&format!("tests/it/{module}.rs"))).unwrap();
        let (head, _) = source.split_once(&format!("fn {name}() {{")).unwrap_or_else(|| panic!("there is no test {test}"));
        let attribute = head.lines().rev().nth(1).unwrap();
        assert!(attribute.starts_with("#[tokio::test") || attribute == "#[test]", "{test} is no test: {attribute}");
    }
    // What the tests of faults try is in the table.
    for module in
        ["registry_torn", "registry_answers", "registry_lies", "registry_full_disks", "registry_kills", "changing_files", "registry_habits"]
    {
        let source = fs::read_to_string(project(&format!("tests/it/{module}.rs"))).unwrap();
        let (mut is_test, mut count) = (false, 0);
        for line in source.lines() {
            if is_test {
                let name = line.trim_start_matches("async ").trim_start_matches("fn ").split('(').next().unwrap();
                assert!(named.contains(format!("{module}::{name}").as_str()), "{module}::{name} is not in the table");
                count += 1;
            }
            is_test = line.starts_with("#[tokio::test") || line == "#[test]";
        }
        assert!(count > 0, "{module}");
    }
}
