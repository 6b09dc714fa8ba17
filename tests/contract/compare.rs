//! The verdicts of `contract/change.rs` against a slow reference: a small world in which every caller and every answer is tried.
//!
//! The world has tensors of few dtypes and shapes. A contract is its requests and its answers, all of them; a caller breaks when one of its
//! requests is refused by the other contract's model, or when an answer of that model is not one that it can read. None of this is the
//! product's code: only contracts are its.
//!
//! What must stay true: the world has more than contracts can name (a dtype, a length, a rank, a subfield), or "any" would look like a list.

use std::collections::BTreeMap;

use lamina::contract::change::{changes, worst};
use lamina::contract::contract::{Contract, Dimension, Field, FieldKind, Shape, Signature};
use lamina::contract::dtype::{DataType, Profile};
use lamina::contract::gate::{Gate, gate};
use lamina::contract::verdict::Verdict;
use proptest::prelude::*;

/// A tensor: its dtype, its shape, and, of a map, its parts (every element has the same).
#[derive(Clone, Debug)]
struct Tensor {
    dtype: DataType,
    shape: Vec<i64>,
    parts: Option<BTreeMap<String, Tensor>>,
}

/// No contract of these tests names the length 3, the dtype DT_STRING, the part `zz`, or three dimensions.
const LENGTHS: [i64; 3] = [1, 2, 3];
const DTYPES: [DataType; 3] = [DataType::Int32, DataType::Int64, DataType::String];

fn shapes_of(shape: &Shape) -> Vec<Vec<i64>> {
    let every = |rank: usize| {
        (0..rank).fold(vec![vec![]], |shapes: Vec<Vec<i64>>, _| {
            shapes.iter().flat_map(|shape| LENGTHS.map(|length| [shape.as_slice(), &[length]].concat())).collect()
        })
    };
    let mut all: Vec<Vec<i64>> = (0..3).flat_map(every).collect();
    all.push(vec![1, 1, 1]);
    all.retain(|candidate| is_of_shape(candidate, shape));
    all
}

fn is_of_shape(candidate: &[i64], shape: &Shape) -> bool {
    let Shape::Dimensions(dimensions) = shape else { return true };
    let mut open = dimensions.len() == candidate.len();
    for (place, dimension) in dimensions.iter().enumerate() {
        open = open && (dimension.size < 0 || candidate.get(place) == Some(&dimension.size));
    }
    open
}

/// Every tensor of the world that fits a field.
fn tensors_of(field: &Field) -> Vec<Tensor> {
    let leaf = |dtype| Tensor { dtype, shape: Vec::new(), parts: None };
    let map = |parts: BTreeMap<String, Tensor>| Tensor { parts: Some(parts), ..leaf(DataType::Map) };
    let some_maps = || {
        let part = |name: &str| map(BTreeMap::from([(name.to_owned(), leaf(DataType::Int32))]));
        vec![map(BTreeMap::new()), part("p"), part("q"), part("zz")]
    };
    let elements = match &field.kind {
        FieldKind::Dtype(DataType::Any) => DTYPES.map(leaf).into_iter().chain(some_maps()).collect(),
        FieldKind::Dtype(DataType::Map) => some_maps(),
        FieldKind::Dtype(dtype) => vec![leaf(*dtype)],
        FieldKind::Subfields(subfields) => choices(subfields).into_iter().map(map).collect(),
        FieldKind::Missing => Vec::new(),
    };
    let shapes = shapes_of(&field.shape);
    elements.iter().flat_map(|element| shapes.iter().map(|shape| Tensor { shape: shape.clone(), ..element.clone() })).collect()
}

/// Ways to fill these fields in which each takes every tensor of its own. The others stand still meanwhile: who looks at a request, or at an
/// answer, looks at one field after the other.
fn choices(fields: &[Field]) -> Vec<BTreeMap<String, Tensor>> {
    let tensors: Vec<Vec<Tensor>> = fields.iter().map(tensors_of).collect();
    let names = || fields.iter().map(|field| field.name.clone());
    let first: BTreeMap<String, Tensor> = names().zip(tensors.iter().map(|tensors| tensors[0].clone())).collect();
    let mut all = vec![first.clone()];
    for (name, tensors) in names().zip(tensors) {
        all.extend(tensors.into_iter().skip(1).map(|tensor| {
            let mut with = first.clone();
            with.insert(name.clone(), tensor);
            with
        }));
    }
    all
}

/// Whether what is there by name is what the fields say; `surplus` lets through what they do not name.
fn fit(values: &BTreeMap<String, Tensor>, fields: &[Field], surplus: bool) -> bool {
    let all_there = fields.iter().all(|field| values.get(&field.name).is_some_and(|tensor| fits(tensor, field, surplus)));
    all_there && (surplus || values.keys().all(|name| fields.iter().any(|field| field.name == *name)))
}

fn fits(tensor: &Tensor, field: &Field, surplus: bool) -> bool {
    let of_kind = match (&field.kind, &tensor.parts) {
        (FieldKind::Dtype(DataType::Any), _) => true,
        (FieldKind::Dtype(dtype), _) => *dtype == tensor.dtype,
        (FieldKind::Subfields(subfields), Some(parts)) => fit(parts, subfields, surplus),
        (FieldKind::Subfields(_) | FieldKind::Missing, _) => false,
    };
    of_kind && is_of_shape(&tensor.shape, &field.shape)
}

/// The signature that a model finds for a request; without a name, its only one.
fn found<'a>(contract: &'a Contract, name: Option<&str>) -> Option<&'a Signature> {
    match (name, contract.signatures.as_slice()) {
        (None, [only]) => Some(only),
        (None, _) => None,
        (Some(name), signatures) => signatures.iter().find(|signature| signature.name == name),
    }
}

/// Whether callers of `made_for` break at a model of `model`; where they do not, whether the two are the same to them.
fn tried(made_for: &Contract, model: &Contract) -> Verdict {
    let names = made_for.signatures.iter().map(|signature| Some(signature.name.as_str())).chain([None]);
    let mut same = made_for.signatures.len() == model.signatures.len();
    for name in names {
        let Some(asked) = found(made_for, name) else { continue };
        let Some(asking) = found(model, name) else { return Verdict::Breaking };
        if choices(&asked.inputs).iter().any(|request| !fit(request, &asking.inputs, false)) {
            return Verdict::Breaking;
        }
        let answers = choices(&asking.outputs);
        if answers.iter().any(|answer| !fit(answer, &asked.outputs, true)) {
            return Verdict::Breaking;
        }
        same = same && answers.iter().all(|answer| fit(answer, &asked.outputs, false));
        same = same && choices(&asking.inputs).iter().all(|request| fit(request, &asked.inputs, false));
        same = same && choices(&asked.outputs).iter().all(|answer| fit(answer, &asking.outputs, false));
    }
    if same { Verdict::Neutral } else { Verdict::Compatible }
}

fn shape() -> impl Strategy<Value = Shape> {
    let size = prop::sample::select(vec![-1_i64, 1, 2]);
    let dimension = (size, prop::sample::select(vec!["", "n"])).prop_map(|(size, name)| Dimension { size, name: name.to_owned() });
    prop_oneof![1 => Just(Shape::Any), 1 => Just(Shape::UnknownRank), 4 => prop::collection::vec(dimension, 0..3).prop_map(Shape::Dimensions)]
}

fn profile() -> impl Strategy<Value = Profile> {
    prop::sample::select(vec![Profile::None, Profile::None, Profile::Ratio])
}

fn leaf(names: Vec<&'static str>) -> impl Strategy<Value = Field> {
    let dtype = prop::sample::select(vec![DataType::Int32, DataType::Int64, DataType::Any, DataType::Map]);
    (prop::sample::select(names), dtype, shape(), profile())
        .prop_map(|(name, dtype, shape, profile)| Field { profile, ..Field::new(name, dtype, shape) })
}

fn distinct(mut fields: Vec<Field>) -> Vec<Field> {
    let mut seen = Vec::new();
    fields.retain(|field| {
        !seen.contains(&field.name) && {
            seen.push(field.name.clone());
            true
        }
    });
    fields
}

fn field() -> impl Strategy<Value = Field> {
    let map = (prop::collection::vec(leaf(vec!["p", "q"]), 1..3), leaf(vec!["a", "b"])).prop_map(|(subfields, field)| Field {
        kind: FieldKind::Subfields(distinct(subfields)),
        shape: Shape::of(&[-1]),
        ..field
    });
    prop_oneof![4 => leaf(vec!["a", "b"]), 1 => map]
}

fn fields(least: usize) -> impl Strategy<Value = Vec<Field>> {
    prop::collection::vec(field(), least..3).prop_map(distinct)
}

fn contract() -> impl Strategy<Value = Contract> {
    let signature = (prop::sample::select(vec!["s", "t"]), fields(0), fields(1)).prop_map(|(name, inputs, outputs)| Signature {
        name: name.to_owned(),
        inputs,
        outputs,
    });
    prop::collection::vec(signature, 1..3).prop_map(|mut signatures| {
        if let [one, other] = signatures.as_slice()
            && one.name == other.name
        {
            signatures.truncate(1);
        }
        Contract { model_name: String::new(), signatures }
    })
}

/// A contract and one that differs in a single thing, or in all.
fn two_contracts() -> impl Strategy<Value = (Contract, Contract)> {
    let edited = (contract(), field(), any::<prop::sample::Index>(), 0..9_u8).prop_map(|(old, field, at, edit)| {
        let mut new = old.clone();
        let place = at.index(new.signatures.len());
        let signature = &mut new.signatures[place];
        let side = if at.index(7) % 2 == 0 || signature.inputs.is_empty() { &mut signature.outputs } else { &mut signature.inputs };
        match edit {
            0 => side.reverse(),
            1 if side.len() > 1 => drop(side.pop()),
            2 => "u".clone_into(&mut signature.name),
            7 => new.signatures.push(Signature { name: "v".to_owned(), inputs: Vec::new(), outputs: vec![field] }),
            3 if place > 0 => drop(new.signatures.pop()),
            4 => side[0].shape = field.shape,
            5 => side[0].kind = field.kind,
            6 => side[0].profile = field.profile,
            _ if side.iter().all(|known| known.name != field.name) => side.push(field),
            _ => {}
        }
        (old, new)
    });
    prop_oneof![1 => (contract(), contract()), 3 => edited]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_change_breaks_when_somebody_breaks((old, new) in two_contracts()) {
        let found = changes(&old, &new);
        let (callers, callees) = (tried(&old, &new), tried(&new, &old));
        prop_assert_eq!(worst(&found).callers, callers, "callers: {:?}", found);
        prop_assert_eq!(worst(&found).callees, callees, "callees: {:?}", found);
        prop_assert_eq!(gate(&old, &new, Gate::Breaking).is_err(), callers == Verdict::Breaking);
        prop_assert_eq!(gate(&old, &new, Gate::Any).is_err(), callers.max(callees) != Verdict::Neutral);
        prop_assert!(gate(&old, &new, Gate::None).is_ok());
    }

    #[test]
    fn contracts_that_swap_places_swap_callers_and_callees((old, new) in two_contracts()) {
        let mut there: Vec<_> = changes(&old, &new).iter().map(|change| (change.judgements.callers.verdict, change.judgements.callees.verdict)).collect();
        let mut back: Vec<_> = changes(&new, &old).iter().map(|change| (change.judgements.callees.verdict, change.judgements.callers.verdict)).collect();
        there.sort_unstable();
        back.sort_unstable();
        prop_assert_eq!(there, back);
    }

    #[test]
    fn a_contract_has_no_change_against_itself(contract in contract()) {
        prop_assert!(changes(&contract, &contract).is_empty());
    }
}

#[test]
fn the_reference_knows_who_breaks() {
    let of = |inputs: Vec<Field>, outputs: Vec<Field>| Contract {
        model_name: String::new(),
        signatures: vec![Signature { name: "infer".to_owned(), inputs, outputs }],
    };
    let x = |dtype, sizes: &[i64]| Field::new("x", dtype, Shape::of(sizes));
    let y = || Field::new("y", DataType::Int32, Shape::Any);
    let z = || Field::new("z", DataType::Int32, Shape::Any);
    let old = of(vec![x(DataType::Int64, &[-1, 2])], vec![y()]);
    for (new, callers) in [
        (old.clone(), Verdict::Neutral),
        (of(vec![], vec![y()]), Verdict::Breaking),
        (of(vec![x(DataType::Int64, &[-1, 2]), y()], vec![y()]), Verdict::Breaking),
        (of(vec![x(DataType::Int32, &[-1, 2])], vec![y()]), Verdict::Breaking),
        (of(vec![x(DataType::Int64, &[1, 2])], vec![y()]), Verdict::Breaking),
        (of(vec![x(DataType::Int64, &[-1, -1])], vec![y()]), Verdict::Compatible),
        (of(vec![x(DataType::Any, &[-1, 2])], vec![y()]), Verdict::Compatible),
        (of(vec![x(DataType::Int64, &[-1, 2])], vec![y(), z()]), Verdict::Compatible),
        (of(vec![x(DataType::Int64, &[-1, 2])], vec![z()]), Verdict::Breaking),
        (of(vec![x(DataType::Int64, &[-1, 2])], vec![Field::new("y", DataType::Int32, Shape::scalar())]), Verdict::Compatible),
    ] {
        assert_eq!(tried(&old, &new), callers, "{new:?}");
        assert_eq!(worst(&changes(&old, &new)).callers, callers, "{new:?}");
    }
}
