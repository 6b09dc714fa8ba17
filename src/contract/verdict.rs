//! Whom a change of a contract breaks, and why: the rules, one function for each kind of change.
//!
//! A *caller* was made for the old contract: it sends requests that fit it, and takes answers that fit it. The model in front of it has the new
//! one. A *callee* is the other way round: a model that was made for the old contract, asked by callers that were made for the new one. That is
//! the old version after a rollback, the old version beside the new one in a stage that shares its traffic, and code whose contract was
//! changed but not the code itself. So what a change is for callees is what the opposite change is for callers, and tests hold that.
//!
//! *Breaking*: a request that was taken can be refused, or an answer can be one that was not promised. *Compatible*: neither, but what can be
//! sent or answered is no longer the same. *Neutral*: it is the same.
//!
//! What a model takes is read as the strictest runtime takes it. All of them refuse a request that lacks an input or has one too many: our
//! Python runtime by name (`lamina_runtime/prediction.py`), the ancestor's because it calls a function by keywords, TensorFlow Serving by
//! counting. TensorFlow compares dtypes and shapes as well; the Python runtimes hand the tensor on, and the function finds no values where it
//! reads those of another dtype. Nothing anywhere converts a tensor. Answers are read by name, and nobody minds one that is not asked for.
//!
//! What must stay true: the rules go by what a field lets through, as a set of tensors, and by nothing else.

use std::fmt;

use serde::Serialize;

use super::contract::{Dimension, FieldKind, Shape};
use super::dtype::DataType;

/// What a change is to somebody; the worse is the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nobody can notice it.
    Neutral,
    /// It can be noticed, and breaks nothing.
    Compatible,
    /// Something that worked can fail.
    Breaking,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Neutral => "neutral",
            Verdict::Compatible => "compatible",
            Verdict::Breaking => "breaking",
        })
    }
}

/// A verdict with its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Judgement {
    /// What the change is.
    pub verdict: Verdict,
    /// Why: the rest of a sentence.
    pub reason: &'static str,
}

/// What a change is to both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Judgements {
    /// To those that call the model.
    pub callers: Judgement,
    /// To models that were made for the old contract.
    pub callees: Judgement,
}

/// Where a field is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// In a request.
    Inputs,
    /// In an answer.
    Outputs,
}

/// What the new one of two fields lets through, against the old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    /// The same.
    Same,
    /// All that the old one does, and more.
    Wider,
    /// Not all that the old one does, and nothing else.
    Narrower,
    /// Something else.
    Other,
}

impl Relation {
    fn of(new_takes_old: bool, old_takes_new: bool) -> Relation {
        match (new_takes_old, old_takes_new) {
            (true, true) => Relation::Same,
            (true, false) => Relation::Wider,
            (false, true) => Relation::Narrower,
            (false, false) => Relation::Other,
        }
    }

    /// How two kinds relate, of which at most one has subfields: those of two are compared one by one.
    pub(super) fn of_kinds(old: &FieldKind, new: &FieldKind) -> Relation {
        Relation::of(kind_takes(new, old), kind_takes(old, new))
    }

    /// How two shapes relate.
    pub(super) fn of_shapes(old: &Shape, new: &Shape) -> Relation {
        Relation::of(shape_takes(new, old), shape_takes(old, new))
    }
}

fn kind_takes(taker: &FieldKind, taken: &FieldKind) -> bool {
    match (taker, taken) {
        // What is not stated fits nothing but itself: such a contract is not valid, and no promise follows from it.
        (taker, FieldKind::Missing | FieldKind::Dtype(DataType::Invalid)) => taker == taken,
        (FieldKind::Dtype(DataType::Any), _) => true,
        // A map of which nothing more is said.
        (FieldKind::Dtype(DataType::Map), FieldKind::Subfields(_)) => true,
        (taker, taken) => taker == taken,
    }
}

fn shape_takes(taker: &Shape, taken: &Shape) -> bool {
    let fits = |(taker, taken): (&Dimension, &Dimension)| taker.size == -1 || taker.size == taken.size;
    match (taker, taken) {
        (Shape::Any | Shape::UnknownRank, _) => true,
        (Shape::Dimensions(_), Shape::Any | Shape::UnknownRank) => false,
        (Shape::Dimensions(taker), Shape::Dimensions(taken)) => taker.len() == taken.len() && taker.iter().zip(taken).all(fits),
    }
}

fn breaking(reason: &'static str) -> Judgement {
    Judgement { verdict: Verdict::Breaking, reason }
}

fn compatible(reason: &'static str) -> Judgement {
    Judgement { verdict: Verdict::Compatible, reason }
}

/// A change that no request and no answer shows.
pub(super) fn neutral(reason: &'static str) -> Judgements {
    let neutral = Judgement { verdict: Verdict::Neutral, reason };
    Judgements { callers: neutral, callees: neutral }
}

/// A field that only the new contract has.
pub(super) fn field_added(side: Side) -> Judgements {
    match side {
        Side::Inputs => Judgements {
            callers: breaking("callers do not send it, and a request without it is refused"),
            callees: breaking("a model of the old contract does not know it, and refuses a request that has it"),
        },
        Side::Outputs => Judgements {
            callers: compatible("callers read answers by name and do not look for it"),
            callees: breaking("a model of the old contract does not answer it, and callers of the new one read it"),
        },
    }
}

/// A field that only the old contract has.
pub(super) fn field_removed(side: Side) -> Judgements {
    match side {
        Side::Inputs => Judgements {
            callers: breaking("callers still send it, and a request with what the contract does not have is refused"),
            callees: breaking("a model of the old contract needs it, and callers of the new one do not send it"),
        },
        Side::Outputs => Judgements {
            callers: breaking("callers still read it, and the answer no longer has it"),
            callees: compatible("a model of the old contract still answers it, and callers of the new one do not look for it"),
        },
    }
}

/// Another dtype, or subfields where a dtype was.
pub(super) fn kind_changed(side: Side, relation: Relation) -> Judgements {
    match (side, relation) {
        (_, Relation::Same) => neutral("both take the same tensors"),
        (Side::Inputs, Relation::Wider) => Judgements {
            callers: compatible("what callers send is still taken"),
            callees: breaking("callers of the new contract may send what a model of the old one does not take"),
        },
        (Side::Inputs, Relation::Narrower) => Judgements {
            callers: breaking("callers may send what is no longer taken"),
            callees: compatible("what callers of the new contract send, a model of the old one takes"),
        },
        (Side::Inputs, Relation::Other) => Judgements {
            callers: breaking("a tensor is not converted on its way: what callers send is refused, or its values are not found"),
            callees: breaking(
                "a tensor is not converted on its way: what callers of the new contract send, a model of the old one does not take",
            ),
        },
        (Side::Outputs, Relation::Wider) => Judgements {
            callers: breaking("the answer may be what callers cannot read"),
            callees: compatible("what a model of the old contract answers, callers of the new one can read"),
        },
        (Side::Outputs, Relation::Narrower) => Judgements {
            callers: compatible("every answer is still one that callers can read"),
            callees: breaking("a model of the old contract may answer what callers of the new one cannot read"),
        },
        (Side::Outputs, Relation::Other) => Judgements {
            callers: breaking("a tensor is not converted on its way: callers look for values of the old type and find none"),
            callees: breaking("a tensor is not converted on its way: callers of the new contract do not find values of its type"),
        },
    }
}

/// Another shape.
pub(super) fn shape_changed(side: Side, relation: Relation) -> Judgements {
    match (side, relation) {
        (_, Relation::Same) => neutral("both take every shape"),
        (Side::Inputs, Relation::Wider) => Judgements {
            callers: compatible("every shape that callers send is still taken"),
            callees: breaking("callers of the new contract may send shapes that a model of the old one does not take"),
        },
        (Side::Inputs, Relation::Narrower) => Judgements {
            callers: breaking("callers may send shapes that are no longer taken"),
            callees: compatible("every shape that callers of the new contract send, a model of the old one takes"),
        },
        (Side::Inputs, Relation::Other) => Judgements {
            callers: breaking("callers send shapes that are not taken"),
            callees: breaking("callers of the new contract send shapes that a model of the old one does not take"),
        },
        (Side::Outputs, Relation::Wider) => Judgements {
            callers: breaking("the answer may have a shape that callers do not expect"),
            callees: compatible("every shape that a model of the old contract answers, callers of the new one expect"),
        },
        (Side::Outputs, Relation::Narrower) => Judgements {
            callers: compatible("every shape of the answer is one that callers expect"),
            callees: breaking("a model of the old contract may answer shapes that callers of the new one do not expect"),
        },
        (Side::Outputs, Relation::Other) => Judgements {
            callers: breaking("the answer has a shape that callers do not expect"),
            callees: breaking("a model of the old contract answers shapes that callers of the new one do not expect"),
        },
    }
}

/// A signature that only the new contract has. A request may leave the name out where a model has one signature, and only there.
pub(super) fn signature_added(old_count: usize, new_count: usize) -> Judgements {
    let callees = breaking("a model of the old contract does not have it, and refuses a request for it");
    let callers = if old_count == 1 && new_count > 1 {
        breaking("callers that name no signature are refused once there are several")
    } else {
        compatible("callers do not ask for it")
    };
    Judgements { callers, callees }
}

/// A signature that only the old contract has.
pub(super) fn signature_removed(old_count: usize, new_count: usize) -> Judgements {
    let callers = breaking("callers still ask for it, and a request for what the model does not have is refused");
    let callees = if new_count == 1 && old_count > 1 {
        breaking("callers of the new contract need not name its one signature, and a model of the old one, with several, refuses that")
    } else {
        compatible("callers of the new contract do not ask for it")
    };
    Judgements { callers, callees }
}

/// A signature under another name.
pub(super) fn signature_renamed() -> Judgements {
    Judgements {
        callers: breaking("callers ask for the old name, and a request for what the model does not have is refused"),
        callees: breaking("callers of the new contract ask for the new name, which a model of the old one does not have"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_is_wider_where_it_takes_all_that_the_other_does() {
        let of = |old: &Shape, new: &Shape| Relation::of_shapes(old, new);
        let (open, fixed) = (Shape::of(&[-1, 2]), Shape::of(&[5, 2]));
        assert_eq!(of(&open, &fixed), Relation::Narrower);
        assert_eq!(of(&fixed, &open), Relation::Wider);
        assert_eq!(of(&Shape::of(&[-1, 2]), &Shape::of(&[5, -1])), Relation::Other);
        assert_eq!(of(&Shape::of(&[1]), &Shape::scalar()), Relation::Other);
        assert_eq!(of(&Shape::of(&[-1]), &Shape::of(&[-1, -1])), Relation::Other);
        assert_eq!(of(&Shape::Any, &Shape::UnknownRank), Relation::Same);
        assert_eq!(of(&Shape::UnknownRank, &Shape::scalar()), Relation::Narrower);
        assert_eq!(of(&fixed, &Shape::Any), Relation::Wider);
    }

    #[test]
    fn a_dtype_takes_itself_and_only_open_ones_take_more() {
        let subfields = FieldKind::Subfields(Vec::new());
        for old in DataType::ALL.map(FieldKind::Dtype).into_iter().chain([FieldKind::Missing]) {
            for new in DataType::ALL.map(FieldKind::Dtype).into_iter().chain([FieldKind::Missing]) {
                let unstated = |kind: &FieldKind| matches!(kind, FieldKind::Missing | FieldKind::Dtype(DataType::Invalid));
                let expected = match (&old, &new) {
                    (old, new) if old == new => Relation::Same,
                    (old, new) if unstated(old) || unstated(new) => Relation::Other,
                    (FieldKind::Dtype(DataType::Any), _) => Relation::Narrower,
                    (_, FieldKind::Dtype(DataType::Any)) => Relation::Wider,
                    _ => Relation::Other,
                };
                assert_eq!(Relation::of_kinds(&old, &new), expected, "{old:?} {new:?}");
            }
        }
        assert_eq!(Relation::of_kinds(&subfields, &FieldKind::Dtype(DataType::Map)), Relation::Wider);
        assert_eq!(Relation::of_kinds(&subfields, &FieldKind::Dtype(DataType::Any)), Relation::Wider);
        assert_eq!(Relation::of_kinds(&subfields, &FieldKind::Dtype(DataType::Float)), Relation::Other);
    }
}
