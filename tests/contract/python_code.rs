//! Whether a Python model's code keeps its contract, judged by Python: each small module is imported and called by `python_code.py`.
//!
//! An error of ours has to be a failure of Python's, silence a call that is taken; a warning says that it cannot be told, and may be either.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;

use lamina::contract::contract::Contract;
use lamina::contract::contract::Field;
use lamina::contract::contract::Shape;
use lamina::contract::contract::Signature;
use lamina::contract::dtype::DataType;
use lamina::contract::text;
use lamina::fault::Failure;
use lamina::model::python_code::CodeError;
use lamina::model::python_code::FUNC_MAIN;
use lamina::model::python_code::check;
use lamina::model::python_source::PYTHON_BYTES_MAX;
use serde_json::Value;
use serde_json::json;

fn contract(signatures: &[(&str, &[&str])]) -> Contract {
    let field = |name: &&str| Field::new(name, DataType::Double, Shape::scalar());
    let signature = |(name, inputs): &(&str, &[&str])| Signature {
        name: (*name).to_owned(),
        inputs: inputs.iter().map(field).collect(),
        outputs: vec![field(&"y")],
    };
    Contract { model_name: String::new(), signatures: signatures.iter().map(signature).collect() }
}

#[derive(Debug, PartialEq, Clone, Copy)]
enum Verdict {
    Silent,
    Warned,
    Refused,
}
use Verdict::Refused;
use Verdict::Silent;
use Verdict::Warned;

fn verdict(source: &str, call: &str, inputs: &[&str]) -> Verdict {
    match check(source.as_bytes(), FUNC_MAIN, &contract(&[(call, inputs)]), None) {
        Ok(warnings) if warnings.is_empty() => Silent,
        Ok(_) => Warned,
        Err(_) => Refused,
    }
}

/// Module, inputs of the signature `infer`, our word.
const CASES: &[(&str, &[&str], Verdict)] = &[
    // Parameters.
    ("def infer(x): pass", &["x"], Silent),
    ("def infer(y, x): pass", &["x", "y"], Silent),
    ("def infer(y): pass", &["x"], Refused),
    ("def infer(x, y): pass", &["x"], Refused),
    ("def infer(x, y=1): pass", &["x"], Silent),
    ("def infer(x): pass", &["x", "y"], Refused),
    ("def infer(): pass", &[], Silent),
    ("def infer(): pass", &["x"], Refused),
    ("def infer(x): pass", &[], Refused),
    ("def infer(**kwargs): pass", &["x", "y"], Silent),
    ("def infer(*args): pass", &["x"], Refused),
    ("def infer(*args): pass", &[], Silent),
    ("def infer(*args, **kwargs): pass", &["x"], Silent),
    ("def infer(*, x): pass", &["x"], Silent),
    ("def infer(*, x, y): pass", &["x"], Refused),
    ("def infer(*, x, y=2): pass", &["x"], Silent),
    ("def infer(x, /): pass", &["x"], Refused),
    ("def infer(x=1, /): pass", &["x"], Refused),
    ("def infer(x=1, /, **kwargs): pass", &["x"], Silent),
    ("def infer(x, /, **kwargs): pass", &["x"], Refused),
    ("def infer(x=1, /): pass", &[], Silent),
    ("def infer(a, /, x): pass", &["x"], Refused),
    ("def infer(y, **kwargs): pass", &["x"], Refused),
    ("def infer(x, x): pass", &["x"], Refused),
    ("def infer(**kwargs): pass", &["my-input", "class", "ﬁ"], Silent),
    ("def infer(x): pass", &["my-input"], Refused),
    ("def infer(ﬁ): pass", &["fi"], Silent),
    ("def infer(ﬁ): pass", &["ﬁ"], Refused),
    ("def infer(größe): pass", &["größe"], Silent),
    ("def infer(match, type): pass", &["match", "type"], Silent),
    ("def infer(x: 'Tensor' = None, *, y: int) -> dict: pass", &["x", "y"], Silent),
    // What the name is.
    ("infer = lambda x: None", &["x"], Silent),
    ("infer = lambda y: None", &["x"], Refused),
    ("infer = lambda: None", &[], Silent),
    ("infer = lambda: None", &["x"], Refused),
    ("def predict(x): pass\ninfer = predict", &["x"], Silent),
    ("def predict(y): pass\ninfer = predict", &["x"], Refused),
    ("a = b = infer = lambda x: 1", &["x"], Silent),
    ("infer: object = lambda x: 1", &["x"], Silent),
    ("infer: object", &["x"], Refused),
    ("infer = 5", &["x"], Refused),
    ("infer = None", &["x"], Refused),
    ("infer = 'x'", &["x"], Refused),
    ("infer = [1]", &["x"], Refused),
    ("infer = print", &["x"], Warned),
    ("infer = dict", &["x"], Warned),
    ("import functools\ndef f(a, x): pass\ninfer = functools.partial(f, 1)", &["x"], Warned),
    ("class infer:\n    def __init__(self, x): pass", &["x"], Warned),
    ("class M:\n    def __call__(self, x): pass\ninfer = M()", &["x"], Silent),
    ("class M:\n    def __call__(self, y): pass\ninfer = M()", &["x"], Refused),
    ("class M:\n    def __call__(self, **k): pass\ninfer = M()", &["self"], Refused),
    ("class M:\n    def __call__(self, /, **k): pass\ninfer = M()", &["self"], Silent),
    ("class M:\n    def __call__(): pass\ninfer = M()", &[], Warned),
    ("class M: pass\ninfer = M()", &["x"], Warned),
    ("class B:\n    def __call__(self, x): pass\nclass M(B): pass\ninfer = M()", &["x"], Warned),
    ("class M:\n    def predict(self, x): pass\ninfer = M().predict", &["x"], Warned),
    ("infer = (lambda x: 1) if 1 else (lambda y: 2)", &["x"], Warned),
    ("(infer := lambda x: 1)", &["x"], Warned),
    ("infer, other = (lambda x: 1), 2", &["x"], Warned),
    ("from os.path import join as infer", &["a"], Warned),
    ("import json as infer", &["x"], Warned),
    ("from os import *", &["x"], Warned),
    ("from os import *\ndef infer(y): pass", &["x"], Refused),
    ("def infer(y): pass\nfrom os import *", &["x"], Warned),
    // Missing.
    ("", &["x"], Refused),
    ("# nothing\n", &["x"], Refused),
    ("def Infer(x): pass", &["x"], Refused),
    ("class M:\n    def infer(self, x): pass", &["x"], Refused),
    ("def outer():\n    def infer(x): pass", &["x"], Refused),
    ("def infer(x): pass\ndel infer", &["x"], Refused),
    ("del_me = 1\ndef infer(x): pass\ndel del_me", &["x"], Silent),
    ("if __name__ == '__main__':\n    def infer(x): pass", &["x"], Refused),
    ("if '__main__' == __name__:\n    pass\nelse:\n    def infer(x): pass", &["x"], Silent),
    // The last one counts; branches are possible.
    ("def infer(y): pass\ndef infer(x): pass", &["x"], Silent),
    ("def infer(x): pass\ndef infer(y): pass", &["x"], Refused),
    ("def infer(x): pass\ninfer = 1", &["x"], Refused),
    ("if 1:\n    def infer(x): pass\nelse:\n    def infer(x, y=1): pass", &["x"], Silent),
    ("if 1:\n    def infer(x): pass\nelse:\n    def infer(y): pass", &["x"], Warned),
    ("if 1:\n    def infer(z): pass\nelse:\n    def infer(y): pass", &["x"], Refused),
    ("def infer(x): pass\nif 0:\n    def infer(y): pass", &["x"], Warned),
    ("def infer(y): pass\nif 1:\n    def infer(x): pass", &["x"], Warned),
    ("try:\n    import nosuchmodule\n    def infer(y): pass\nexcept ImportError:\n    def infer(x): pass", &["x"], Warned),
    ("try:\n    def infer(x): pass\nfinally:\n    pass", &["x"], Silent),
    ("try:\n    pass\nexcept ImportError as infer:\n    pass", &["x"], Refused),
    ("import contextlib\nwith contextlib.suppress(ImportError):\n    import nosuchmodule\n    def infer(y): pass\n", &["x"], Refused),
    (
        "import contextlib\ndef infer(x): pass\nwith contextlib.suppress(ImportError):\n    import nosuchmodule\n    infer = 1",
        &["x"],
        Warned,
    ),
    ("for i in [1]:\n    def infer(x): pass", &["x"], Silent),
    ("for infer in [len]:\n    pass", &["x"], Warned),
    ("while True:\n    def infer(x): pass\n    break", &["x"], Silent),
    ("match 1:\n    case 1:\n        def infer(x): pass", &["x"], Silent),
    ("match print:\n    case infer: pass", &["x"], Warned),
    ("import io\nwith io.StringIO() as infer: pass", &["x"], Warned),
    // Out of sight.
    ("exec('def infer(x): pass')", &["x"], Warned),
    ("globals()['infer'] = lambda x: 1", &["x"], Warned),
    ("globals().update(infer=lambda x: 1)", &["x"], Warned),
    ("import sys\nsetattr(sys.modules[__name__], 'infer', lambda x: 1)", &["x"], Warned),
    ("def __getattr__(name):\n    return lambda x: 1", &["x"], Warned),
    ("def load():\n    global infer\n    infer = lambda x: 1\nload()", &["x"], Warned),
    ("def infer(y):\n    return globals().get('model')", &["x"], Refused),
    ("def infer(y):\n    return 'model' in globals() and '{y}'.format(**locals())", &["x"], Refused),
    // Decorators.
    ("import functools\n@functools.lru_cache(None)\ndef infer(x): pass", &["x"], Silent),
    ("from functools import lru_cache as c\n@c(maxsize=1)\ndef infer(y): pass", &["x"], Refused),
    ("import functools\n@functools.wraps(print)\ndef infer(y): pass", &["x"], Refused),
    ("def cache(f): return lambda x: 1\n@cache\ndef infer(y): pass", &["x"], Warned),
    ("def d(f): return lambda y: 1\n@d\ndef infer(x): pass", &["x"], Warned),
    // What is called is taken, but gives no answer.
    ("async def infer(x): pass", &["x"], Warned),
    ("async def infer(y): pass", &["x"], Refused),
    ("def infer(x):\n    yield 1", &["x"], Warned),
    ("def infer(x):\n    def rows():\n        yield 1\n    return list(rows())", &["x"], Silent),
    // What is no Python.
    ("def infer(x):\nreturn 1", &["x"], Refused),
    ("def infer(x):\n\tif x:\n        return 1", &["x"], Refused),
    ("def infer(x):\n    print 'x'", &["x"], Refused),
    ("def infer(x):\n    print(x", &["x"], Refused),
    ("def infer(x): (1]", &["x"], Refused),
    ("def infer(x):\n    return f'{x!r:>{10}} {x=}'", &["x"], Silent),
    ("if 1:\n\tdef infer(x):\n\t    pass\n\tz = 1", &["x"], Silent),
    ("def infer(x):\n\tif x:\n\t\tpass\n      return 1", &["x"], Refused),
    ("if 1:\n        if 1:\n\t    def infer(x): pass", &["x"], Refused),
    ("if 1:\n    def infer(x): pass\n\n\t# comment\n  # another\n    z = (1,\n\t2)", &["x"], Silent),
    ("if 1:\n    def infer(x): pass\n  # comment\n   \\\n z = 1", &["x"], Refused),
    ("\u{feff}def infer(x): pass", &["x"], Silent),
    ("def infer(x):\r\n    pass\r\n", &["x"], Silent),
    ("def infer(x):\r    pass\r", &["x"], Silent),
    ("def infer(x): pass\n\x0c\ndef other(): pass\n", &["x"], Silent),
];

#[test]
fn python_agrees_with_every_verdict() {
    let cases: Vec<Value> = CASES.iter().map(|(source, inputs, _)| json!({"source": source, "call": "infer", "inputs": inputs})).collect();
    let judge = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/contract/python_code.py");
    let mut python = Command::new("/usr/bin/python3")
        .args(["-B", "-W", "ignore"])
        .arg(judge)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    python.stdin.take().unwrap().write_all(&serde_json::to_vec(&cases).unwrap()).unwrap();
    let output = python.wait_with_output().unwrap();
    let outcomes: Vec<String> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(outcomes.len(), CASES.len());
    let mut wrong = Vec::new();
    for ((source, inputs, expected), outcome) in CASES.iter().zip(outcomes) {
        let ours = verdict(source, "infer", inputs);
        let agrees = match ours {
            Silent => outcome == "taken",
            Refused => outcome != "taken",
            Warned => true,
        };
        if !agrees || ours != *expected {
            wrong.push(format!("{source:?} with {inputs:?}: we say {ours:?} (expected {expected:?}), Python {outcome:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn refused(source: &[u8], contract: &Contract) -> (String, Option<String>) {
    let error = check(source, FUNC_MAIN, contract, None).unwrap_err();
    (error.to_string(), error.remedy())
}

#[test]
fn the_example_keeps_its_contract() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples/linear_regression");
    let contract = text::parse(&fs::read(example.join("contract.prototxt")).unwrap(), "contract.prototxt").unwrap();
    let code = fs::read(example.join(FUNC_MAIN)).unwrap();
    assert_eq!(check(&code, FUNC_MAIN, &contract, Some((3, 11))).unwrap(), Vec::<String>::new());
}

#[test]
fn a_mismatch_names_the_line_and_what_to_write() {
    let source = "import numpy as np\n\n\ndef infer(data,\n          scale):\n    return data\n";
    assert_eq!(
        refused(source.as_bytes(), &contract(&[("infer", &["x", "data"])])),
        (
            "src/func_main.py:4:5: `infer` has no parameter for the input `x` (it has `data`, `scale`); it needs `scale`, which is no input of the \
             signature\n  |\n4 | def infer(data,\n  |     ^"
                .to_owned(),
            Some("write `def infer(x, data):`, or change the inputs in the contract".to_owned())
        )
    );
    let (text, remedy) = refused(b"def infer(x):\n    pass\n", &contract(&[("infer", &["my-input"])]));
    assert!(text.contains("no parameter for the input `my-input` (it has `x`)"), "{text}");
    assert_eq!(
        remedy.unwrap(),
        "`my-input` is no name for a parameter: rename the input in the contract, or take the inputs with `**inputs`"
    );
}

#[test]
fn a_missing_function_names_those_that_there_are_and_the_one_that_was_meant() {
    let source = b"def load():\n    pass\n\ndef infre(x):\n    pass\n";
    assert_eq!(
        refused(source, &contract(&[("infer", &["x"])])),
        (
            "src/func_main.py has no function `infer`, which the contract's signature of that name calls; it has `load`, `infre`"
                .to_owned(),
            Some("if `infre` is meant, rename it, or the signature".to_owned())
        )
    );
    let (text, remedy) = refused(b"x = 1\n", &contract(&[("infer", &["x", "y"])]));
    assert!(text.ends_with("; it defines none"), "{text}");
    assert_eq!(remedy.unwrap(), "write `def infer(x, y):`, or name the signature after the function that answers it");
    let (_, remedy) = refused(b"", &contract(&[("my-signature", &["x"])]));
    assert_eq!(remedy.unwrap(), "`my-signature` is no name for a function: rename the signature in the contract");
}

#[test]
fn every_signature_is_looked_at() {
    let two = contract(&[("a", &["x"]), ("infer", &["x"]), ("b", &["x"])]);
    let CodeError::Broken { breaches } = check(b"def a(y): pass\ndef infer(x): pass\n", FUNC_MAIN, &two, None).unwrap_err() else {
        panic!("another error");
    };
    assert_eq!(breaches.iter().map(|breach| breach.signature.as_str()).collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn what_is_no_python_3_is_shown_with_its_line() {
    let infer = contract(&[("infer", &["x"])]);
    let (text, remedy) = refused(b"def infer(x):\n    print \"ready\"\n", &infer);
    assert_eq!(
        text,
        "src/func_main.py:2:11: this is no Python 3: Simple statements must be separated by newlines or semicolons\n  |\n2 |     print \
         \"ready\"\n  |           ^"
    );
    assert!(remedy.unwrap().contains("Python 2"));
    let (text, _) = refused(b"x = 1\n\0", &infer);
    assert!(text.starts_with("src/func_main.py:2:1: a zero byte"), "{text}");
    let (text, remedy) = refused(b"# caf\xe9\nx = 'caf\xe9'\ndef infer(x): pass\n", &infer);
    assert!(text.starts_with("src/func_main.py:2:9: the text is not UTF-8"), "{text}");
    assert!(remedy.unwrap().contains("latin-1"));
    let utf16: Vec<u8> = "def infer(x): pass".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let (_, remedy) = refused(&utf16, &infer);
    assert!(remedy.unwrap().contains("UTF-16"));
    let (text, remedy) = refused(b"%matplotlib inline\ndef infer(x): pass\n", &infer);
    assert!(text.starts_with("src/func_main.py:1:1: this is no Python 3"), "{text}");
    assert!(remedy.unwrap().contains("notebook"));
}

#[test]
fn other_encodings_are_read_where_they_are_known() {
    let infer = contract(&[("infer", &["x"])]);
    let check = |source: &[u8]| check(source, FUNC_MAIN, &infer, None);
    assert_eq!(check(b"#!/usr/bin/python\n# -*- coding: latin-1 -*-\n# caf\xe9\ndef infer(x): pass\n").unwrap(), Vec::<String>::new());
    // Python does not mind what stands in a comment.
    assert_eq!(check(b"def infer(x): pass  # caf\xe9\r\n").unwrap(), Vec::<String>::new());
    assert_eq!(check(b"# vim: set fileencoding=cp1251 :\ndef infer(x): pass\n").unwrap(), Vec::<String>::new());
    let warnings = check(b"# coding: koi8-r\n# \xe9\ndef infer(x): pass\n").unwrap();
    assert!(warnings[0].contains("`koi8-r`"), "{warnings:?}");
}

#[test]
fn syntax_that_the_runtime_lacks_is_a_warning() {
    let infer = contract(&[("infer", &["x"])]);
    let source = b"def infer(x):\n    match x:\n        case _: pass\n";
    assert_eq!(check(source, FUNC_MAIN, &infer, Some((3, 10))).unwrap(), Vec::<String>::new());
    let newest = b"type V = list\ndef infer[T](x: T) -> T: return f'{f\"{x}\"}'\n";
    assert_eq!(check(newest, FUNC_MAIN, &infer, None).unwrap(), Vec::<String>::new());
    let warnings = check(source, FUNC_MAIN, &infer, Some((3, 8))).unwrap();
    assert!(warnings[0].starts_with("src/func_main.py:2:5: Cannot use `match` statement on Python 3.8"), "{warnings:?}");
}

#[test]
fn no_nesting_ends_the_process() {
    let infer = contract(&[("infer", &["x"])]);
    let times = 100_000;
    let mut hostile: Vec<String> = [
        "(",
        "[",
        "{",
        "-",
        "not ",
        "await ",
        "lambda: ",
        "lambda a=",
        "f(",
        "x[",
        "1 if 1 else ",
        "2**",
        "*",
        "yield ",
        "f'{",
        "a:=",
        "a.",
        "[(",
        "(]",
        "@",
        "async ",
        "if x:",
        "~",
        "1+",
        "1 and not ",
        "x,(",
        "x=",
        "print ",
        "\\",
        "f\"{f'{",
    ]
    .iter()
    .map(|part| part.repeat(times.min(PYTHON_BYTES_MAX / part.len())))
    .collect();
    hostile.extend(
        [".a", "+1", "()", "[0]", " if a else b", " or a", "@a", " as b"].iter().map(|part| format!("x = a{}", part.repeat(times))),
    );
    hostile.push(format!("x = {}1{}", "(".repeat(times), ")".repeat(times)));
    for block in ["if x:\n", "def f():\n", "try:\n", "class A:\n"] {
        hostile.push((0..1_300).flat_map(|depth| [" ".repeat(depth), block.to_owned()]).collect());
    }
    hostile.push(format!("if a: pass\n{}", "elif a: pass\n".repeat(70_000)));
    hostile.push(format!("{}def infer(x): pass\n", "@a\n".repeat(times)));
    hostile.push(format!("f'{{{}", "x:{".repeat(times)));
    hostile.push(format!("match x:\n case {}", "A(".repeat(times)));
    hostile.push(format!("f'{{(x y\n\"{}", "(".repeat(29_000)));
    hostile.push(format!("f'{{\"{}", "not ".repeat(190_000)));
    // The smallest stack that a reader gets: a thread of the async runtime.
    let reader = std::thread::Builder::new().stack_size(2 << 20).spawn(move || {
        for source in hostile {
            let _ = check(source.as_bytes(), FUNC_MAIN, &infer, None);
        }
    });
    reader.unwrap().join().unwrap();
}

#[test]
fn what_is_past_a_limit_is_not_read_and_no_error() {
    let infer = contract(&[("infer", &["x"])]);
    let large = vec![b'#'; PYTHON_BYTES_MAX + 1];
    assert!(check(&large, FUNC_MAIN, &infer, None).unwrap()[0].contains("is not read"));
    // A table of numbers is flat, however long.
    let table = format!("ROWS = [{}]\ndef infer(x): pass\n", "(1, -2.5, 'a' + 'b'), ".repeat(9_000));
    assert_eq!(check(table.as_bytes(), FUNC_MAIN, &infer, None).unwrap(), Vec::<String>::new());
    let lambdas = format!("F = {{{}}}\ndef infer(x): pass\n", "1: lambda a, b=2: a + b, ".repeat(5_000));
    assert_eq!(check(lambdas.as_bytes(), FUNC_MAIN, &infer, None).unwrap(), Vec::<String>::new());
}
