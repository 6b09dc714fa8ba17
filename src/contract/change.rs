//! What changed between two contracts of one model, each change with its verdicts.
//!
//! `changes` walks both contracts and says what it finds in words; what a change means to whom is `verdict.rs`. What a contract says of the
//! model itself is another question (`compare.rs`), and whether a change is let through is the gate's (`gate.rs`).
//!
//! What must stay true: a contract has no change against itself; the order is the old contract's, then what is new; and of two contracts
//! that swap places the changes are the same with callers and callees swapped.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use serde::Serialize;

use super::compare::{kind_in_words, shape_in_words};
use super::contract::{Contract, Field, FieldKind, Shape, Signature, shown};
use super::dtype::{DataType, Profile};
use super::pairs::{Pair, below, pairs};
use super::verdict::{self, Judgements, Relation, Side, Verdict};

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// The model's name.
    ModelName,
    /// A signature is new.
    SignatureAdded,
    /// A signature is gone.
    SignatureRemoved,
    /// A signature has another name and is otherwise the same.
    SignatureRenamed,
    /// An input, an output or a subfield is new.
    FieldAdded,
    /// An input, an output or a subfield is gone.
    FieldRemoved,
    /// A field has another dtype, or subfields where it had a dtype.
    Dtype,
    /// A field has another shape.
    Shape,
    /// A field's dimensions have other names.
    DimensionNames,
    /// A field has another profile.
    Profile,
    /// Signatures, or fields, stand in another order.
    Order,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The path of names from the signature: `infer.inputs.x`. The old contract's, where the two differ.
    pub path: String,
    /// What changed.
    #[serde(rename = "change")]
    pub kind: ChangeKind,
    /// The change in words, as the rest of a sentence that begins with the path.
    pub sentence: String,
    /// What it is to callers and to callees, with the reasons.
    #[serde(flatten)]
    pub judgements: Judgements,
}

/// Three lines: what changed, what it is to callers, what to callees; one where both are the same.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Judgements { callers, callees } = &self.judgements;
        write!(f, "{} {}", self.path, self.sentence)?;
        if callers == callees {
            return write!(f, "\n  {}: {}", callers.verdict, callers.reason);
        }
        write!(f, "\n  {} for callers: {}", callers.verdict, callers.reason)?;
        write!(f, "\n  {} for callees: {}", callees.verdict, callees.reason)
    }
}

/// The worst of several changes, for each side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Worst {
    /// To callers.
    pub callers: Verdict,
    /// To callees.
    pub callees: Verdict,
}

/// The worst of these changes; neutral where there is none.
pub fn worst(changes: &[Change]) -> Worst {
    let of = |verdict: fn(&Change) -> Verdict| changes.iter().map(verdict).max().unwrap_or(Verdict::Neutral);
    Worst { callers: of(|change| change.judgements.callers.verdict), callees: of(|change| change.judgements.callees.verdict) }
}

/// Every change from `old` to `new`, in the old contract's order, then what is new.
///
/// A model's name that only one of them states is no change: a contract has none until an image is built.
pub fn changes(old: &Contract, new: &Contract) -> Vec<Change> {
    let mut found = Found::default();
    if old.model_name != new.model_name && !old.model_name.is_empty() && !new.model_name.is_empty() {
        let sentence = format!("was {} and is {}", shown(&old.model_name), shown(&new.model_name));
        let judgements = verdict::neutral("a model is asked at its address, and does not look at the name in a request");
        found.add("model_name", ChangeKind::ModelName, sentence, judgements);
    }
    found.signatures(&old.signatures, &new.signatures);
    found.0
}

#[derive(Default)]
struct Found(Vec<Change>);

impl Found {
    fn add(&mut self, path: &str, kind: ChangeKind, sentence: String, judgements: Judgements) {
        self.0.push(Change { path: path.to_owned(), kind, sentence, judgements });
    }

    fn signatures(&mut self, old: &[Signature], new: &[Signature]) {
        let (old_count, new_count) = (old.len(), new.len());
        let pairs = pairs(old, new);
        let mut renamed = renamed(&pairs.pairs);
        for (place, pair) in pairs.pairs.iter().enumerate() {
            match (pair, renamed.remove(&place)) {
                (Pair::Both(old, new), _) => self.signature(old, new),
                (Pair::First(old), Some(Some(new))) => {
                    let sentence = format!("is called {} now", shown(&new.name));
                    self.add(&shown(&old.name), ChangeKind::SignatureRenamed, sentence, verdict::signature_renamed());
                    self.signature(old, new);
                }
                (Pair::First(old), _) => {
                    let judgements = verdict::signature_removed(old_count, new_count);
                    self.add(&shown(&old.name), ChangeKind::SignatureRemoved, "is gone".to_owned(), judgements);
                }
                // The new half of a rename, which was told at its old half.
                (Pair::Second(_), Some(None)) => {}
                (Pair::Second(new), _) => {
                    let judgements = verdict::signature_added(old_count, new_count);
                    self.add(&shown(&new.name), ChangeKind::SignatureAdded, "is new".to_owned(), judgements);
                }
            }
        }
        if pairs.reordered {
            let judgements = verdict::neutral("signatures are found by name");
            self.add("signatures", ChangeKind::Order, "stand in another order".to_owned(), judgements);
        }
    }

    fn signature(&mut self, old: &Signature, new: &Signature) {
        let path = shown(&old.name);
        self.fields(&old.inputs, &new.inputs, &format!("{path}.inputs"), Side::Inputs);
        self.fields(&old.outputs, &new.outputs, &format!("{path}.outputs"), Side::Outputs);
    }

    // The depth of the recursion is that of the contracts, which their readers have limited.
    fn fields(&mut self, old: &[Field], new: &[Field], above: &str, side: Side) {
        let pairs = pairs(old, new);
        for pair in &pairs.pairs {
            match pair {
                Pair::Both(old, new) => self.field(old, new, &below(above, &old.name), side),
                Pair::First(old) => {
                    self.add(&below(above, &old.name), ChangeKind::FieldRemoved, "is gone".to_owned(), verdict::field_removed(side));
                }
                Pair::Second(new) => {
                    self.add(&below(above, &new.name), ChangeKind::FieldAdded, "is new".to_owned(), verdict::field_added(side));
                }
            }
        }
        if pairs.reordered {
            self.add(above, ChangeKind::Order, "stand in another order".to_owned(), verdict::neutral("fields are found by name"));
        }
    }

    fn field(&mut self, old: &Field, new: &Field, path: &str, side: Side) {
        match (&old.kind, &new.kind) {
            (FieldKind::Subfields(old), FieldKind::Subfields(new)) => self.fields(old, new, path, side),
            (old, new) if old != new => {
                let judgements = verdict::kind_changed(side, Relation::of_kinds(old, new));
                self.add(path, ChangeKind::Dtype, kind_sentence(old, new), judgements);
            }
            _ => {}
        }
        self.shape(&old.shape, &new.shape, path, side);
        if old.profile != new.profile {
            let words =
                |profile: Profile| if profile == Profile::None { "no profile".to_owned() } else { format!("the profile {profile}") };
            let sentence = format!("had {} and has {}", words(old.profile), words(new.profile));
            let judgements = verdict::neutral("a profile is a hint for monitoring; no request and no answer has it");
            self.add(path, ChangeKind::Profile, sentence, judgements);
        }
    }

    fn shape(&mut self, old: &Shape, new: &Shape, path: &str, side: Side) {
        let sizes_differ = match (old, new) {
            (Shape::Dimensions(old), Shape::Dimensions(new)) => !old.iter().map(|d| d.size).eq(new.iter().map(|d| d.size)),
            (old, new) => old != new,
        };
        if sizes_differ {
            let relation = Relation::of_shapes(old, new);
            self.add(path, ChangeKind::Shape, shape_sentence(old, new, relation), verdict::shape_changed(side, relation));
        } else if old != new {
            let judgements = verdict::neutral("names of dimensions are for people; no request and no answer is held against them");
            self.add(path, ChangeKind::DimensionNames, "has other names for its dimensions".to_owned(), judgements);
        }
    }
}

/// Which pairs are the two halves of a rename, by their places: the old half with the signature that it became, the new one with none.
fn renamed<'a>(pairs: &[Pair<'a, Signature>]) -> BTreeMap<usize, Option<&'a Signature>> {
    let mut added: BTreeMap<String, VecDeque<(usize, &Signature)>> = BTreeMap::new();
    for (place, pair) in pairs.iter().enumerate() {
        if let Pair::Second(new) = pair {
            added.entry(promise(new)).or_default().push_back((place, new));
        }
    }
    let mut renamed = BTreeMap::new();
    for (place, pair) in pairs.iter().enumerate() {
        if let Pair::First(old) = pair
            && let Some((new_place, new)) = added.get_mut(&promise(old)).and_then(VecDeque::pop_front)
        {
            renamed.insert(place, Some(new));
            renamed.insert(new_place, None);
        }
    }
    renamed
}

/// What a signature promises, whatever it is called: the same text for two between which every change is neutral.
fn promise(signature: &Signature) -> String {
    fn bare(fields: &[Field]) -> Vec<Field> {
        let mut bare: Vec<Field> = fields.iter().map(bare_field).collect();
        bare.sort_by(|one, other| one.name.cmp(&other.name));
        bare
    }
    fn bare_field(field: &Field) -> Field {
        let kind = match &field.kind {
            FieldKind::Subfields(subfields) => FieldKind::Subfields(bare(subfields)),
            other => other.clone(),
        };
        let shape = match &field.shape {
            Shape::Any | Shape::UnknownRank => Shape::Any,
            Shape::Dimensions(dimensions) => Shape::of(&dimensions.iter().map(|dimension| dimension.size).collect::<Vec<i64>>()),
        };
        Field { name: field.name.clone(), kind, shape, profile: Profile::None }
    }
    format!("{:?}", (bare(&signature.inputs), bare(&signature.outputs)))
}

fn kind_sentence(old: &FieldKind, new: &FieldKind) -> String {
    let (was, is) = (kind_in_words(old), kind_in_words(new));
    match (old, new) {
        (FieldKind::Dtype(old), FieldKind::Dtype(new)) => {
            let note = match (precision(*old), precision(*new)) {
                (Some((family, old)), Some((other, new))) if family == other && new < old => ", which is narrower",
                (Some((family, old)), Some((other, new))) if family == other && new > old => ", which is wider",
                _ => "",
            };
            format!("was {was} and is {is}{note}")
        }
        _ => format!("had {was} and has {is}"),
    }
}

/// The family within which one type holds all values of those of fewer bits, and the bits.
fn precision(dtype: DataType) -> Option<(&'static str, u32)> {
    Some(match dtype {
        DataType::Int8 => ("signed", 8),
        DataType::Int16 => ("signed", 16),
        DataType::Int32 => ("signed", 32),
        DataType::Int64 => ("signed", 64),
        DataType::Uint8 => ("unsigned", 8),
        DataType::Uint16 => ("unsigned", 16),
        DataType::Uint32 => ("unsigned", 32),
        DataType::Uint64 => ("unsigned", 64),
        DataType::Half | DataType::Bfloat16 => ("floating", 16),
        DataType::Float => ("floating", 32),
        DataType::Double => ("floating", 64),
        DataType::Complex64 => ("complex", 64),
        DataType::Complex128 => ("complex", 128),
        _ => return None,
    })
}

fn shape_sentence(old: &Shape, new: &Shape, relation: Relation) -> String {
    let note = match (old, new, relation) {
        (Shape::Dimensions(old), Shape::Dimensions(new), _) if old.len() != new.len() => ": another number of dimensions",
        (Shape::Dimensions(_), Shape::Dimensions(_), Relation::Narrower) => ": a dimension is fixed that was open",
        (Shape::Dimensions(_), Shape::Dimensions(_), Relation::Wider) => ": a dimension is open that was fixed",
        _ => "",
    };
    format!("had {} and has {}{note}", shape_words(old), shape_words(new))
}

/// A scalar has no shape to speak of; what has one has a shape.
fn shape_words(shape: &Shape) -> String {
    match shape {
        Shape::Dimensions(dimensions) if dimensions.is_empty() => "the shape of a scalar".to_owned(),
        other => shape_in_words(other),
    }
}

#[cfg(test)]
mod tests {
    use super::super::text::parse;
    use super::*;
    use serde_json::json;

    fn contract(signatures: &str) -> Contract {
        parse(signatures.as_bytes(), "c").unwrap()
    }

    /// One signature `infer` with these fields.
    fn infer(fields: &str) -> Contract {
        contract(&format!("signatures {{ signature_name: 'infer' {fields} }}"))
    }

    /// A line for each change: what is shown first, then the verdicts.
    #[track_caller]
    fn check(old: &Contract, new: &Contract, expected: &[&str]) {
        let line = |change: &Change| {
            let Judgements { callers, callees } = change.judgements;
            format!("{} {} | {} {}", change.path, change.sentence, callers.verdict, callees.verdict)
        };
        assert_eq!(changes(old, new).iter().map(line).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn every_change_has_its_words_and_its_verdicts() {
        let old = "inputs { name: 'x' shape { dim { size: -1 } dim { size: 2 } } dtype: DT_INT64 } inputs { name: 'age' dtype: DT_INT32 }
             inputs { name: 's' shape { } dtype: DT_STRING } inputs { name: 'm' subfields { data { name: 'a' dtype: DT_BOOL } } }
             outputs { name: 'y' shape { dim { size: 1 } } dtype: DT_FLOAT } outputs { name: 'p' dtype: DT_DOUBLE }";
        let new = "inputs { name: 's' shape { dim { size: 1 } } dtype: DT_STRING } inputs { name: 'new' dtype: DT_INT32 }
             inputs { name: 'x' shape { dim { size: 5 } dim { size: 2 } } dtype: DT_INT32 profile: RATIO }
             inputs { name: 'm' shape { unknown_rank: true } subfields { data { name: 'b' dtype: DT_BOOL } } }
             outputs { name: 'y' shape { dim { size: -1 name: 'n' } } dtype: DT_STRING } outputs { name: 'q' dtype: DT_DOUBLE }";
        check(
            &infer(old),
            &infer(new),
            &[
                "infer.inputs.x was DT_INT64 and is DT_INT32, which is narrower | breaking breaking",
                "infer.inputs.x had shape [-1, 2] and has shape [5, 2]: a dimension is fixed that was open | breaking compatible",
                "infer.inputs.x had no profile and has the profile RATIO | neutral neutral",
                "infer.inputs.age is gone | breaking breaking",
                "infer.inputs.s had the shape of a scalar and has shape [1]: another number of dimensions | breaking breaking",
                "infer.inputs.m.a is gone | breaking breaking",
                "infer.inputs.m.b is new | breaking breaking",
                "infer.inputs.m had any shape and has unknown rank | neutral neutral",
                "infer.inputs.new is new | breaking breaking",
                "infer.inputs stand in another order | neutral neutral",
                "infer.outputs.y was DT_FLOAT and is DT_STRING | breaking breaking",
                "infer.outputs.y had shape [1] and has shape [-1]: a dimension is open that was fixed | breaking compatible",
                "infer.outputs.p is gone | breaking compatible",
                "infer.outputs.q is new | compatible breaking",
            ],
        );
        check(&infer(old), &infer(old), &[]);
        let (plain, mapped) =
            (infer("inputs { name: 'x' dtype: DT_MAP }"), infer("inputs { name: 'x' subfields { data { name: 'a' dtype: 1 } } }"));
        check(&plain, &mapped, &["infer.inputs.x had DT_MAP and has subfields | breaking compatible"]);
        assert_eq!(worst(&changes(&infer(old), &infer(new))), Worst { callers: Verdict::Breaking, callees: Verdict::Breaking });
        assert_eq!(worst(&[]), Worst { callers: Verdict::Neutral, callees: Verdict::Neutral });
    }

    #[test]
    fn signatures_come_go_and_are_renamed() {
        let signature = |name: &str, fields: &str| format!("signatures {{ signature_name: '{name}' {fields} }} ");
        let (x, y) = ("inputs { name: 'x' dtype: DT_FLOAT }", "outputs { name: 'y' dtype: DT_FLOAT }");
        let of =
            |signatures: &[(&str, &str)]| contract(&signatures.iter().map(|(name, fields)| signature(name, fields)).collect::<String>());
        check(&of(&[("a", x)]), &of(&[("a", x), ("b", y)]), &["b is new | breaking breaking"]);
        check(&of(&[("a", x), ("b", y)]), &of(&[("a", x)]), &["b is gone | breaking breaking"]);
        let three = of(&[("a", x), ("b", y), ("c", &format!("{x} {y}"))]);
        check(
            &of(&[("b", y), ("a", x)]),
            &three,
            &["c is new | compatible breaking", "signatures stand in another order | neutral neutral"],
        );
        check(&three, &of(&[("a", x), ("b", y)]), &["c is gone | breaking compatible"]);
        check(&of(&[("a", x), ("b", y)]), &of(&[("c", x), ("b", y)]), &["a is called c now | breaking breaking"]);
        let profiled = "inputs { name: 'x' shape { unknown_rank: true } dtype: DT_FLOAT }";
        check(
            &of(&[("a", x)]),
            &of(&[("c", profiled)]),
            &["a is called c now | breaking breaking", "a.inputs.x had any shape and has unknown rank | neutral neutral"],
        );
        check(&of(&[("a", x)]), &of(&[("c", y)]), &["a is gone | breaking compatible", "c is new | compatible breaking"]);
        let (mut one, mut other) = (of(&[("a", x)]), of(&[("a", x)]));
        one.model_name = "adult".to_owned();
        check(&one, &other, &[]);
        other.model_name = "child".to_owned();
        check(&one, &other, &["model_name was adult and is child | neutral neutral"]);
    }

    #[test]
    fn a_change_is_shown_and_is_json() {
        let old = infer("inputs { name: 'x' dtype: DT_FLOAT } outputs { name: 'y' dtype: DT_FLOAT profile: RATIO }");
        let new = infer("inputs { name: 'x' dtype: DT_FLOAT } outputs { name: 'z' dtype: DT_FLOAT } outputs { name: 'y' dtype: DT_FLOAT }");
        let changes = changes(&old, &new);
        let shown: Vec<String> = changes.iter().map(Change::to_string).collect();
        assert_eq!(
            shown,
            [
                "infer.outputs.y had the profile RATIO and has no profile\n  neutral: a profile is a hint for monitoring; no request and no answer has it",
                "infer.outputs.z is new\n  compatible for callers: callers read answers by name and do not look for it\n  breaking for callees: \
                 a model of the old contract does not answer it, and callers of the new one read it",
            ]
        );
        let expected = json!({"path": "infer.outputs.z", "change": "field_added", "sentence": "is new",
            "callers": {"verdict": "compatible", "reason": "callers read answers by name and do not look for it"},
            "callees": {"verdict": "breaking", "reason": "a model of the old contract does not answer it, and callers of the new one read it"}});
        assert_eq!(serde_json::to_value(&changes[1]).unwrap(), expected);
    }
}
