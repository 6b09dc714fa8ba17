//! Contracts inside `serving.yaml`: the forms of 0.1.x, 2.x and 3.0.3, and what is refused in them, each with its place.

use lamina::contract::contract::Contract;
use lamina::contract::print::print;
use lamina::contract::text::parse;
use lamina::fault::{Failure, Fault, one_line};
use lamina::model::definition::{DefinedContract, DefinitionError, read};

/// The contract of a later definition, and its warnings.
fn inline(contract: &str) -> (Contract, Vec<String>) {
    let definition = read("serving.yaml", definition(contract).as_bytes()).unwrap();
    let Some(DefinedContract::Inline(inline)) = definition.contract else { panic!("no contract inside") };
    inline.contract.validate().unwrap();
    (inline.contract, definition.warnings)
}

/// A definition with this below `contract:`, from its third line on.
fn definition(contract: &str) -> String {
    format!("kind: Model\ncontract:\n{contract}")
}

#[track_caller]
fn is(contract: &str, text: &str) {
    let (read, warnings) = inline(contract);
    assert_eq!(print(&read), print(&parse(text.as_bytes(), "c").unwrap()));
    assert_eq!(warnings, Vec::<String>::new());
}

/// That this is refused, with the place before which `§` stands in it.
#[track_caller]
fn refused(contract: &str, problem: &str, expected: &str) {
    let definition = definition(contract);
    let before = definition.split('§').next().unwrap();
    let (line, column) = (before.lines().count().max(1), before.lines().last().unwrap().chars().count() + 1);
    let error = read("serving.yaml", definition.replace('§', "").as_bytes()).unwrap_err();
    assert!(matches!(error, DefinitionError::Contract(_) | DefinitionError::Yaml(_)), "{error:?}");
    assert_eq!(error.fault(), Fault::Invalid);
    let text = one_line(&error);
    assert!(text.contains("serving.yaml:") && text.contains(problem), "{text}");
    assert!(!definition.contains('§') || text.contains(&format!("serving.yaml:{line}:{column}: ")), "{line}:{column} {text}");
    let remedy = error.remedy().unwrap_or_default();
    assert!(remedy.contains(expected), "{remedy}");
}

#[test]
fn signatures_by_their_names_as_0_1_has_them() {
    is(
        "  infer:
    inputs:
      z: {shape: [-1, 2], type: double, profile: Numerical}
      a: {shape: scalar, type: string}
    outputs:
      y: {type: int64}
  learn:
    inputs:
      client:
        fields:
          age: {shape: [1], type: int32}
          tags: {subfields: {n: {type: bool}}}
",
        "signatures { signature_name: 'infer'
           inputs { name: 'z' shape { dim { size: -1 } dim { size: 2 } } dtype: DT_DOUBLE profile: NUMERICAL }
           inputs { name: 'a' shape { } dtype: DT_STRING } outputs { name: 'y' dtype: DT_INT64 } }
         signatures { signature_name: 'learn'
           inputs { name: 'client' subfields { data { name: 'age' shape { dim { size: 1 } } dtype: DT_INT32 }
             data { name: 'tags' subfields { data { name: 'n' dtype: DT_BOOL } } } } } }",
    );
}

#[test]
fn one_signature_as_2_and_3_have_it() {
    let expected = "signatures { signature_name: 'infer' inputs { name: 'x' shape { dim { size: 24 } } dtype: DT_FLOAT profile: ORDINAL }
        outputs { name: 'y' shape { } dtype: DT_UINT8 } }";
    is(
        "  outputs: {y: {shape: scalar, type: uint8, profile: none}}\n  name: infer\n  inputs: {x: {shape: [24], type: FLOAT32, profile: oridnal}}",
        expected,
    );
    is(
        "  {name: infer, inputs: {x: {shape: [24], type: DT_FLOAT, profile: ordinal}}, outputs: {y: {shape: [], type: dt_uint8}}}",
        expected,
    );
}

#[test]
fn the_forms_are_told_apart_whatever_the_names_are() {
    let field = |name: &str| format!("name: '{name}' dtype: DT_INT8");
    // A signature called `inputs`, and one called `name`.
    let both = |first: &str| {
        let (x, y) = (field("x"), field("y"));
        format!("signatures {{ signature_name: '{first}' inputs {{ {x} }} }} signatures {{ signature_name: 'name' outputs {{ {y} }} }}")
    };
    is("  inputs: {inputs: {x: {type: int8}}}\n  name: {outputs: {y: {type: int8}}}", &both("inputs"));
    // Fields called `inputs`, `outputs`, `type`, `fields`, in the form with one signature.
    let (inputs, outputs, kind) = (field("inputs"), field("outputs"), field("type"));
    let one = format!("signatures {{ signature_name: 'f' inputs {{ {inputs} }} inputs {{ {outputs} }} outputs {{ {kind} }} }}");
    is("  name: f\n  inputs: {inputs: {type: int8}, outputs: {type: int8}}\n  outputs: {type: {type: int8}}", &one);
    // The same without the name that would tell.
    let (contract, warnings) = inline("  inputs: {inputs: {type: int8}, outputs: {type: int8}}\n  outputs: {type: {type: int8}}");
    assert_eq!(print(&contract), print(&parse(one.replace("'f'", "'predict'").as_bytes(), "c").unwrap()));
    assert_eq!(warnings, ["the contract at serving.yaml:3:3 has no `name`: its signature is called `predict`"]);
    // A signature called `inputs` whose one input is called `fields`, of a type.
    is(
        "  inputs: {inputs: {fields: {type: int8}}}",
        &format!("signatures {{ signature_name: 'inputs' inputs {{ {} }} }}", field("fields")),
    );
}

#[test]
fn names_are_texts_whatever_yaml_takes_them_for() {
    let (contract, _) = inline("  name: no\n  inputs: {1: {type: int8}, yes: {type: int8}, 1.10: {type: int8}, \"~\": {type: int8}}\n");
    let names: Vec<&str> = contract.signatures[0].inputs.iter().map(|field| field.name.as_str()).collect();
    assert_eq!((contract.signatures[0].name.as_str(), names.as_slice()), ("no", ["1", "yes", "1.10", "~"].as_slice()));
}

#[test]
fn aliases_and_merge_keys_work_as_authors_use_them() {
    is(
        "  f:\n    inputs: {a: &x {shape: [2], type: int8}, b: *x}\n    outputs: {c: {<<: *x, type: bool}}\n",
        "signatures { signature_name: 'f' inputs { name: 'a' shape { dim { size: 2 } } dtype: DT_INT8 }
           inputs { name: 'b' shape { dim { size: 2 } } dtype: DT_INT8 } outputs { name: 'c' shape { dim { size: 2 } } dtype: DT_BOOL } }",
    );
}

#[test]
fn a_word_that_no_era_has_is_a_warning_and_a_part_that_none_has_an_error() {
    let (_, warnings) = inline("  name: f\n  comment: good\n  inputs: {x: {type: int8, unit: kg}}\n");
    assert_eq!(
        warnings,
        [
            "`comment` at serving.yaml:4:3 is no key of any era and says nothing",
            "`unit` at serving.yaml:5:28 is no key of any era and says nothing"
        ]
    );
    refused("  name: f\n  §input: {x: {type: int8}}\n  outputs: {y: {type: int8}}", "`input` is not a part", "`inputs`");
    refused("  f: {inputs: {x: {type: int8}}, §output: {y: {type: int8}}}", "`output` is not a part", "`outputs`");
    refused("  §f: {input: {x: {type: int8}}}", "`f` is not a part", "`outputs`");
}

#[test]
fn what_is_not_a_contract_is_refused_with_its_place() {
    let field = |field: &str| format!("  name: f\n  inputs:\n    x: {field}\n");
    for (value, problem, expected) in [
        ("{type: int8, shape: §vector}", "the shape of `f.inputs.x` is `vector`", "`scalar` or a list of lengths"),
        ("{type: int8, shape: §3}", "the shape of `f.inputs.x` is `3`", "[-1, 2]"),
        ("{type: int8, shape: §{a: 1}}", "is a mapping", "[-1, 2]"),
        ("{type: int8, shape: [1, §-2]}", "a dimension that is no length", "-1 is any length"),
        ("{type: int8, shape: [§1.5]}", "no length", "[-1, 2]"),
        ("{type: int8, shape: [§'1']}", "no length", "[-1, 2]"),
        ("{type: int8, shape: [§99999999999999999999]}", "no length", "[-1, 2]"),
        ("{type: §float}", "the type of `f.inputs.x` is `float`", "float32"),
        ("{type: §DT_INVALID}", "is `DT_INVALID`", "the types are bool"),
        ("{type: §[int8]}", "is a list", "one word"),
        ("{§dtype: int8}", "has a `dtype`", "`type`"),
        ("§{shape: [1]}", "has no `type`", "type: double"),
        ("§{fields: {}}", "made of no fields", "type: double"),
        ("{type: int8, §fields: {a: {type: int8}}}", "has a type twice", "write one"),
        ("{type: int8, profile: §big}", "the profile of `f.inputs.x` is `big`", "none, categorical"),
        ("§int8", "the field `f.inputs.x` is a text", "type: double"),
        ("§[1]", "is a list", "type: double"),
        ("{type: int8}\n    §x: {type: int8}", "the key `x` is here twice", ""),
        ("{type: int8}\n    §\"a\\0b\": {type: int8}", "the name `a\\0b` has a control character", "without"),
        ("{type: int8}\n    §\"\\x7f\": {type: int8}", "has a control character", "without"),
        ("{type: int8}\n    §'': {type: int8}", "the name is empty", "give it a name"),
        ("{type: int8}\n    §~: {type: int8}", "or YAML's `null`", "in quotes"),
    ] {
        refused(&field(value), problem, expected);
    }
    refused("  §[]", "the contract is a list", "`name`, `inputs`");
    refused("  §{}", "neither inputs nor outputs", "`name`, `inputs`");
    refused("  §name: f", "the signature `f` has neither inputs nor outputs", "`outputs`");
    refused("  name: §\"a\\tb\"\n  inputs: {x: {type: int8}}", "has a control character", "without");
    refused("  name: §[f]\n  inputs: {x: {type: int8}}", "the signature's name is a list", "`name`");
    refused("  inputs: §[x]", "is a list, not fields by their names", "type: double");
    refused("  f: {inputs: {x: {type: int8}}}\n  g: §1", "`g` is a number and no signature", "`inputs`");
    refused("  f: {inputs: {x: {type: int8}}}\n  g: §{inputs: }", "the signature `g` has neither", "`inputs`");
    refused("  f: {inputs: {x: {type: int8}}}\n  §f: {inputs: {x: {type: int8}}}", "the key `f` is here twice", "");
    refused("  f: {inputs: {x: &a {type: int8, fields: {y: §*a}}}}", "inside what it stands for", "");
}

#[test]
fn deep_and_huge_ones_are_refused() {
    let nested = |levels: usize| {
        let open = "{fields: {n: ".repeat(levels);
        format!("  name: f\n  inputs: {{x: {open}{{type: int8}}{}}}", "}}".repeat(levels))
    };
    inline(&nested(47));
    refused(&nested(48), "nested deeper than 48", "less deep");
    refused(&nested(80), "nested deeper than 128", "");
    refused(&nested(20_000), "", "");
    let many = "1,".repeat(200_000);
    refused(&format!("  name: f\n  inputs: {{x: {{type: int8, shape: [{many}]}}}}"), "too many values", "");
    let mut bomb = "  a0: &a0 {x: {type: int8}}\n".to_owned();
    for level in 1..12 {
        let uses: Vec<String> = (0..10).map(|number| format!("k{number}: *a{}", level - 1)).collect();
        bomb.push_str(&format!("  a{level}: &a{level} {{{}}}\n", uses.join(", ")));
    }
    refused(&bomb, "too many uses of aliases", "");
}
