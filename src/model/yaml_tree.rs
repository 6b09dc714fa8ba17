//! A YAML text as nodes, each with its place: for files whose errors have to name line and column of a value.
//!
//! Built from the parser's events, because no other way keeps all of these: the order of keys, the text of a scalar as it was written (`no`,
//! `1.10`), and the place of every key and value. Aliases and merge keys (`<<`) are followed; tags but those of plain YAML are refused.
//! What a node means is the reader's business; `yaml.rs` is the door.
//!
//! What must stay true: text of a MiB gives at most [`WEIGHT_BYTES_MAX`] of nodes, nested to [`DEPTH_MAX`], aliases counted as
//! often as they are used.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use serde_saphyr::granit_parser::{Event, Options, Parser, ScalarStyle, Span, Tag};

/// The deepest nesting: a contract's deepest field takes two levels for each of its 48, and the definition around it six.
pub const DEPTH_MAX: usize = 128;
/// What all nodes may weigh together; the largest real file has a few hundred nodes.
pub const WEIGHT_BYTES_MAX: usize = 16 << 20;
/// What a node weighs beside its text.
const NODE_BYTES: usize = 96;

/// A line and a column, both from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
}

/// A value and where it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// Where it begins; an alias begins where it is used.
    pub mark: Mark,
    /// How many levels it has, itself included.
    height: usize,
    /// What it and all below weigh.
    weight_bytes: usize,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Nothing: `~`, `null`, or no text at all.
    Null,
    /// A text, a number, a boolean.
    Scalar {
        /// As it was written, without quotes.
        text: String,
        /// Without quotes: it may be a number.
        plain: bool,
    },
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the author's order; no key is there twice.
    Map(Vec<(Key, Node)>),
}

/// A key of a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its text.
    pub text: String,
    /// Where it begins.
    pub mark: Mark,
}

/// What is wrong with a text, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub mark: Mark,
    /// What.
    pub text: String,
}

impl Node {
    fn new(value: Value, mark: Mark) -> Node {
        let (below_height, below_bytes) = match &value {
            Value::Null => (0, 0),
            Value::Scalar { text, .. } => (0, text.len()),
            Value::List(items) => above(items.iter()),
            Value::Map(entries) => {
                let (height, weight_bytes) = above(entries.iter().map(|(_, node)| node));
                (height, entries.iter().fold(weight_bytes, |sum, (key, _)| sum.saturating_add(NODE_BYTES + key.text.len())))
            }
        };
        Node { value, mark, height: below_height + 1, weight_bytes: below_bytes.saturating_add(NODE_BYTES) }
    }

    /// The value of a mapping's key.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries().iter().find(|(known, _)| known.text == key).map(|(_, node)| node)
    }

    /// The entries of a mapping; none of anything else.
    pub fn entries(&self) -> &[(Key, Node)] {
        if let Value::Map(entries) = &self.value { entries } else { &[] }
    }

    /// The text of a scalar, as it was written.
    pub fn text(&self) -> Option<&str> {
        if let Value::Scalar { text, .. } = &self.value { Some(text) } else { None }
    }

    /// What it is, for errors: `a list`.
    pub fn in_words(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Scalar { plain: true, text } if text.parse::<f64>().is_ok() => "a number",
            Value::Scalar { .. } => "a text",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}

fn above<'a>(nodes: impl Iterator<Item = &'a Node>) -> (usize, usize) {
    nodes.fold((0, 0), |(height, weight), node| (height.max(node.height), weight.saturating_add(node.weight_bytes)))
}

/// Every document of a text.
pub fn documents(text: &str) -> Result<Vec<Node>, Problem> {
    let mut options = Options::default();
    options.set_emit_comments(false);
    options.flow_nesting_limit = DEPTH_MAX;
    options.block_nesting_limit = DEPTH_MAX;
    let mut builder = Builder::default();
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event.map_err(|error| {
            let mark = Mark { line: error.marker().line(), column: error.marker().col() + 1 };
            Problem { mark, text: error.info() }
        })?;
        builder.take(event, span)?;
    }
    Ok(builder.documents)
}

/// A list or a mapping whose end has not come.
struct Unfinished {
    anchor: usize,
    mark: Mark,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Map { entries: Vec<(Key, Node)>, seen: BTreeSet<String>, key: Option<Pending>, merges: Vec<Node> },
}

/// A key whose value has not come.
enum Pending {
    Key(Key),
    Merge,
}

#[derive(Default)]
struct Builder {
    documents: Vec<Node>,
    open: Vec<Unfinished>,
    anchors: BTreeMap<usize, Node>,
    weight_bytes: usize,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Problem> {
        let mark = Mark { line: span.start.line(), column: span.start.col() + 1 };
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let forced = check_tag(tag.as_deref(), mark)?;
                let plain = style == ScalarStyle::Plain && !forced;
                let value = match text.as_ref() {
                    "" | "~" | "null" | "Null" | "NULL" if plain => Value::Null,
                    text => Value::Scalar { text: text.to_owned(), plain },
                };
                self.finish(Node::new(value, mark), anchor)
            }
            Event::SequenceStart(_, anchor, tag) => self.begin(anchor, mark, tag.as_deref(), Content::List(Vec::new())),
            Event::MappingStart(_, anchor, tag) => {
                let content = Content::Map { entries: Vec::new(), seen: BTreeSet::new(), key: None, merges: Vec::new() };
                self.begin(anchor, mark, tag.as_deref(), content)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor) else {
                    return Err(problem(mark, "the alias stands inside what it stands for"));
                };
                let mut node = node.clone();
                node.mark = mark;
                self.finish(node, 0)
            }
            _ => Ok(()),
        }
    }

    fn begin(&mut self, anchor: usize, mark: Mark, tag: Option<&Tag>, content: Content) -> Result<(), Problem> {
        check_tag(tag, mark)?;
        self.open.push(Unfinished { anchor, mark, content });
        self.check_depth(0, mark)
    }

    fn end(&mut self) -> Result<(), Problem> {
        let Some(Unfinished { anchor, mark, content }) = self.open.pop() else { return Ok(()) };
        let value = match content {
            Content::List(items) => Value::List(items),
            Content::Map { mut entries, mut seen, merges, .. } => {
                for (key, node) in
                    merges.into_iter().flat_map(|merged| if let Value::Map(entries) = merged.value { entries } else { Vec::new() })
                {
                    if seen.insert(key.text.clone()) {
                        entries.push((key, node));
                    }
                }
                Value::Map(entries)
            }
        };
        self.finish(Node::new(value, mark), anchor)
    }

    /// Puts a whole node in its place.
    fn finish(&mut self, node: Node, anchor: usize) -> Result<(), Problem> {
        self.check_depth(node.height, node.mark)?;
        // What is inside a collection was weighed when it came, the copy behind an anchor is weighed here.
        let copies = if anchor == 0 { 1 } else { 2 };
        self.weight_bytes = self.weight_bytes.saturating_add(node.weight_bytes.saturating_mul(copies));
        if self.weight_bytes > WEIGHT_BYTES_MAX {
            return Err(problem(node.mark, "there are too many values, or too many uses of aliases"));
        }
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut().map(|open| &mut open.content) {
            None => self.documents.push(node),
            Some(Content::List(items)) => items.push(node),
            Some(Content::Map { entries, seen, key, merges }) => match key.take() {
                None => *key = Some(as_key(node, seen)?),
                Some(Pending::Merge) => merges.extend(merged(node)?),
                Some(Pending::Key(key)) => entries.push((key, node)),
            },
        }
        Ok(())
    }

    fn check_depth(&self, height: usize, mark: Mark) -> Result<(), Problem> {
        if self.open.len() + height > DEPTH_MAX {
            return Err(problem(mark, &format!("values are nested deeper than {DEPTH_MAX} levels")));
        }
        Ok(())
    }
}

/// A key that no other key of its mapping is; `<<` without quotes takes other mappings in.
fn as_key(node: Node, seen: &mut BTreeSet<String>) -> Result<Pending, Problem> {
    let mark = node.mark;
    let text = match node.value {
        Value::Scalar { text, plain: true } if text == "<<" => return Ok(Pending::Merge),
        Value::Scalar { text, .. } => text,
        Value::Null => String::new(),
        Value::List(_) | Value::Map(_) => return Err(problem(mark, "a key is a text, not a list or a mapping")),
    };
    if !seen.insert(text.clone()) {
        return Err(problem(mark, &format!("the key `{}` is here twice", text.escape_debug())));
    }
    Ok(Pending::Key(Key { text, mark }))
}

/// What a merge key takes in: a mapping, or several, of which the first wins.
fn merged(node: Node) -> Result<Vec<Node>, Problem> {
    let mark = node.mark;
    let nodes = match node.value {
        Value::List(nodes) => nodes,
        _ => vec![node],
    };
    if nodes.iter().all(|node| matches!(node.value, Value::Map(_))) {
        Ok(nodes)
    } else {
        Err(problem(mark, "`<<` takes in a mapping, or a list of mappings"))
    }
}

/// Whether a tag makes a text of whatever is written; a tag that is not of plain YAML is an error.
fn check_tag(tag: Option<&Tag>, mark: Mark) -> Result<bool, Problem> {
    let Some(tag) = tag else { return Ok(false) };
    match tag.core_suffix() {
        Some("str") => Ok(true),
        Some("int" | "float" | "bool" | "null" | "map" | "seq") => Ok(false),
        _ => Err(problem(mark, &format!("the tag `{}` is not read", tag.original().escape_debug()))),
    }
}

fn problem(mark: Mark, text: &str) -> Problem {
    Problem { mark, text: text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Node {
        let mut documents = documents(text).unwrap();
        assert_eq!(documents.len(), 1);
        documents.remove(0)
    }

    #[track_caller]
    fn refused(text: &str, expected: &str, line: usize, column: usize) {
        let problem = documents(text).unwrap_err();
        assert!(problem.text.contains(expected), "{}", problem.text);
        assert_eq!(problem.mark, Mark { line, column }, "{}", problem.text);
    }

    #[test]
    fn order_texts_and_places_are_the_authors() {
        let node = one("b: no\na: [1.10, ~, \"null\", !!str 1]\n'': {}\n");
        let keys: Vec<(&str, usize, usize)> =
            node.entries().iter().map(|(key, node)| (key.text.as_str(), key.mark.line, node.mark.column)).collect();
        assert_eq!(keys, [("b", 1, 4), ("a", 2, 4), ("", 3, 5)]);
        let Value::List(items) = &node.get("a").unwrap().value else { panic!("no list") };
        let scalar = |text: &str, plain| Value::Scalar { text: text.to_owned(), plain };
        let values: Vec<Value> = items.iter().map(|item| item.value.clone()).collect();
        assert_eq!(values, [scalar("1.10", true), Value::Null, scalar("null", false), scalar("1", false)]);
        assert_eq!(documents("a: 1\n---\nb: 2\n").unwrap().len(), 2);
    }

    #[test]
    fn aliases_and_merge_keys_are_followed() {
        let node = one("base: &b {x: 1, y: 2}\nnext:\n  <<: *b\n  x: 3\nagain: *b\n");
        let texts = |key: &str| {
            let entries = node.get(key).unwrap().entries().iter();
            entries.map(|(key, node)| (key.text.clone(), node.value.clone())).collect::<Vec<_>>()
        };
        let number = |text: &str| Value::Scalar { text: text.to_owned(), plain: true };
        assert_eq!(texts("next"), [("x".to_owned(), number("3")), ("y".to_owned(), number("2"))]);
        assert_eq!(texts("again"), texts("base"));
        assert_eq!(node.get("again").unwrap().mark, Mark { line: 5, column: 8 });
    }

    #[test]
    fn what_is_no_plain_yaml_is_refused_with_its_place() {
        refused("a: 1\nb: 2\na: 3\n", "`a` is here twice", 3, 1);
        refused("a: &x [1, *x]\n", "inside what it stands for", 1, 11);
        refused("? [1]\n: 2\n", "a key is a text", 1, 3);
        refused("a: *none\n", "unknown anchor", 1, 4);
        refused("a: !!python/object:os.system {}\n", "is not read", 1, 30);
        refused("<<: 1\n", "takes in a mapping", 1, 5);
        assert!(documents("a:\n\tb: 1\n").is_err());
    }

    #[test]
    fn neither_depth_nor_aliases_make_it_grow() {
        for text in ["[".repeat(200_000), "- ".repeat(200_000), "{a: ".repeat(100_000), "? ".repeat(100_000)] {
            let parsed = std::thread::Builder::new().stack_size(1 << 20).spawn(move || documents(&text).map(|_| ())).unwrap();
            assert!(parsed.join().unwrap().is_err());
        }
        // Each line is ten times the one before.
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            bomb.push_str(&format!("a{level}: &a{level} [{}]\n", vec![format!("*a{}", level - 1); 10].join(", ")));
        }
        assert!(documents(&bomb).unwrap_err().text.contains("too many uses of aliases"));
        // And each line here is as deep as the one before, and one deeper by every alias.
        let mut tower = format!("a0: &a0 {}x{}\n", "[".repeat(60), "]".repeat(60));
        for level in 1..9 {
            tower.push_str(&format!("a{level}: &a{level} {}*a{} {}\n", "[".repeat(60), level - 1, "]".repeat(60)));
        }
        assert!(documents(&tower).unwrap_err().text.contains("nested deeper than 128"));
        let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(500_000), vec!["*a"; 1000].join(", "));
        assert!(documents(&long).unwrap_err().text.contains("too many uses of aliases"));
    }
}
