//! What a pickle reaches by name without importing it: attributes that it fetches, modules that it has others import.
//!
//! `getattr` is what Python itself writes for bound methods, for nested classes and, in some versions, for members of enumerations; `operator.attrgetter` and its
//! like are in pipelines of real models. So none of them is suspicious by itself: what they fetch may be. An attribute of an import is one more import,
//! `numpy` and `testing.os`; cloudpickle's `subimport` and dill's `_import_module` are imports by their argument.
//!
//! What must stay true: a name that is not known, and a function of these that is handed on in place of being called, are told as such: then anything can be fetched.

use std::ops::Range;
use std::rc::Rc;

use super::pickle::Attribute;
use super::pickle::Global;
use super::pickle_stack::Value;

/// What calling one of these functions comes to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Reached {
    /// One more import.
    pub import: Option<Rc<Global>>,
    /// Attributes that are fetched from what is no import; without a name where it is not known.
    pub attributes: Vec<Attribute>,
    /// A pickle inside of this one; without its place where that is not known.
    pub inner: Vec<Option<Range<u64>>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    Attribute,
    AttributesOf,
    ItemsOf,
    MethodOf,
    Module,
    Pickle,
}

fn reach(function: &Global) -> Option<Reach> {
    Some(match (function.module.as_str(), function.name.as_str()) {
        ("builtins" | "__builtin__", "getattr") => Reach::Attribute,
        ("operator" | "_operator", "attrgetter") => Reach::AttributesOf,
        ("operator" | "_operator", "itemgetter") => Reach::ItemsOf,
        ("operator" | "_operator", "methodcaller") => Reach::MethodOf,
        ("cloudpickle" | "cloudpickle.cloudpickle" | "cloudpickle.cloudpickle_fast", "subimport") => Reach::Module,
        ("dill._dill" | "dill.dill", "_import_module") => Reach::Module,
        // What `pickle.dump` makes of a tensor: the bytes are what `torch.save` makes of its elements.
        ("torch.storage", "_load_from_bytes") => Reach::Pickle,
        _ => return None,
    })
}

/// Whether a value is one of these functions.
pub(super) fn reaches(value: &Value) -> bool {
    matches!(value, Value::Import(function) if reach(function).is_some())
}

/// What a call of `function` reaches; nothing where it is another function.
pub(super) fn reached(function: &Global, arguments: &Value, offset: usize) -> Reached {
    let Some(reach) = reach(function) else { return Reached::default() };
    let attribute = |value: &Value| match value {
        Value::Text(name) => Some(Attribute { name: Some(name.to_string()), offset }),
        Value::Made | Value::Array => Some(Attribute { name: None, offset }),
        // What is no text is no attribute's name; it may be an item's, and a harmless one.
        Value::Plain | Value::Bytes(_) | Value::Import(_) | Value::Tuple(_) => None,
    };
    let import = |module: &str, name: String| Reached {
        import: Some(Rc::new(Global { module: module.to_owned(), name, offset })),
        ..Reached::default()
    };
    let attributes = |attributes: Vec<Attribute>| Reached { attributes, ..Reached::default() };
    let values: &[Value] = if let Value::Tuple(values) = arguments { values } else { &[] };
    match (reach, values) {
        (Reach::Attribute, [Value::Import(of), Value::Text(name), ..]) if of.name.is_empty() => import(&of.module, name.to_string()),
        (Reach::Attribute, [Value::Import(of), Value::Text(name), ..]) => import(&of.module, format!("{}.{name}", of.name)),
        (Reach::Attribute, [_, name, ..]) => attributes(attribute(name).into_iter().collect()),
        (Reach::AttributesOf | Reach::ItemsOf, [_, ..]) => attributes(values.iter().filter_map(attribute).collect()),
        (Reach::MethodOf, [name, ..]) => attributes(attribute(name).into_iter().collect()),
        (Reach::Module, [Value::Text(module), ..]) => import(module, String::new()),
        (Reach::Pickle, [Value::Bytes(bytes), ..]) => Reached { inner: vec![Some(bytes.clone())], ..Reached::default() },
        (Reach::Pickle, _) => Reached { inner: vec![None], ..Reached::default() },
        _ => attributes(vec![Attribute { name: None, offset }]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_call_fetches_is_named_or_told_as_unknown() {
        let function = |module: &str, name: &str| Global { module: module.to_owned(), name: name.to_owned(), offset: 0 };
        let text = |text: &str| Value::Text(text.into());
        let numpy = Value::Import(Rc::new(function("numpy", "testing")));
        let calls = |of: &str, name: &str, arguments: Vec<Value>| reached(&function(of, name), &Value::tuple(arguments), 7);
        let attributes = |reached: Reached| reached.attributes.into_iter().map(|attribute| attribute.name).collect::<Vec<_>>();
        let import = calls("builtins", "getattr", vec![numpy.clone(), text("os")]).import.unwrap();
        assert_eq!((import.module.as_str(), import.name.as_str(), import.offset), ("numpy", "testing.os", 7));
        let import = calls("cloudpickle.cloudpickle", "subimport", vec![text("os")]).import.unwrap();
        assert_eq!((import.module.as_str(), import.name.as_str()), ("os", ""));
        assert_eq!(attributes(calls("__builtin__", "getattr", vec![Value::Made, text("x")])), [Some("x".to_owned())]);
        assert_eq!(attributes(calls("builtins", "getattr", vec![numpy, Value::Made])), [None]);
        assert_eq!(attributes(calls("builtins", "getattr", vec![])), [None]);
        assert_eq!(attributes(calls("operator", "itemgetter", vec![Value::Plain, text("x")])), [Some("x".to_owned())]);
        assert_eq!(attributes(calls("operator", "methodcaller", vec![text("x"), text("y")])), [Some("x".to_owned())]);
        assert_eq!(attributes(calls("operator", "attrgetter", vec![Value::Plain; 99])), [None]);
        assert_eq!(calls("torch.storage", "_load_from_bytes", vec![Value::Bytes(3..5)]).inner, [Some(3..5)]);
        assert_eq!(calls("os", "system", vec![text("true")]), Reached::default());
    }
}
