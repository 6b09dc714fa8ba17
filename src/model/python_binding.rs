//! What a Python name is bound to, as far as a caller cares: a `def`, a lambda, a class, an expression, looked at one by one.
//!
//! What is known of a function are its parameters and what a call gives; what is known of anything else is whether it can be a function at all.
//! Where that hangs on something that is not in this tree, it is [`Binding::Unclear`].

use ruff_python_ast::Decorator;
use ruff_python_ast::Expr;
use ruff_python_ast::Parameters;
use ruff_python_ast::Stmt;
use ruff_python_ast::StmtClassDef;
use ruff_python_ast::StmtFunctionDef;
use ruff_python_ast::helpers::any_over_expr;

use super::python_dynamic;
use super::python_names::Names;
use super::python_names::POSSIBILITIES_MAX;
use crate::contract::contract::shown;

/// Decorators that give a function with the parameters of the one that they get.
const TRANSPARENT: [&str; 9] = [
    "functools.cache",
    "functools.lru_cache",
    "functools.wraps",
    "typing.final",
    "typing.no_type_check",
    "typing.override",
    "typing_extensions.deprecated",
    "typing_extensions.final",
    "typing_extensions.override",
];

/// Decorators of the frameworks whose callables take what the function takes, as their documentation has it; what they do at a call is theirs.
const FAMILIAR: [&str; 8] = [
    "jax.jit",
    "numba.jit",
    "numba.njit",
    "tensorflow.function",
    "torch.compile",
    "torch.inference_mode",
    "torch.jit.script",
    "torch.no_grad",
];

/// What a name is bound to.
#[derive(Clone)]
pub(super) enum Binding<'a> {
    /// Something with parameters that are known.
    Function(Function<'a>),
    /// A class: a call makes an instance, which can itself be called where that is known.
    Class(&'a StmtClassDef, Option<Function<'a>>),
    /// From another module; its dotted name.
    Imported(String),
    /// No function for certain; what it is, with its article.
    Value(&'static str),
    /// Nothing can be said; why.
    Unclear(String),
    /// Nothing: it was deleted.
    Absent,
}

/// A function, a lambda, or an instance that can be called.
#[derive(Clone)]
pub(super) struct Function<'a> {
    /// Its parameters; a lambda may have none.
    pub parameters: Option<&'a Parameters>,
    /// Whether the first of them is `self`, which the caller does not give.
    pub bound: bool,
    /// What a call of it gives.
    pub gives: Gives,
    /// What is between the name and the function.
    pub wrapper: Wrapper,
}

/// What a call gives.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Gives {
    /// What it returns.
    Value,
    /// Something to be awaited.
    Coroutine,
    /// Something to be iterated over.
    Generator,
}

/// What decorators may have done to the parameters.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Wrapper {
    /// Nothing.
    None,
    /// Nothing, as far as is known; the decorator.
    Familiar(String),
    /// Anything; the decorator.
    Unknown(String),
}

impl<'a> Names<'a> {
    /// What an expression's value may be.
    pub(super) fn value(&self, value: &'a Expr) -> Vec<Binding<'a>> {
        let binding = match value {
            Expr::Lambda(lambda) => Binding::Function(Function {
                parameters: lambda.parameters.as_deref(),
                bound: false,
                gives: if yields(&lambda.body) { Gives::Generator } else { Gives::Value },
                wrapper: Wrapper::None,
            }),
            Expr::Name(name) => {
                let possible: Vec<Binding<'a>> = self.possible(&name.id).into_iter().map(|(binding, _)| binding).collect();
                if possible.is_empty() {
                    return vec![Binding::Unclear(format!("another name for `{}`, which is not defined in this file", shown(&name.id)))];
                }
                return possible;
            }
            Expr::If(choice) => {
                let mut both = self.value(&choice.body);
                both.extend(self.value(&choice.orelse));
                both.truncate(POSSIBILITIES_MAX + 1);
                if both.len() <= POSSIBILITIES_MAX {
                    return both;
                }
                Binding::Unclear("one of many things".to_owned())
            }
            Expr::Named(named) => return self.value(&named.value),
            Expr::Call(call) => self.instance(&call.func),
            Expr::StringLiteral(_) | Expr::FString(_) => Binding::Value("a text"),
            Expr::BytesLiteral(_) => Binding::Value("bytes"),
            Expr::NumberLiteral(_) => Binding::Value("a number"),
            Expr::BooleanLiteral(_) => Binding::Value("a truth value"),
            Expr::NoneLiteral(_) => Binding::Value("None"),
            Expr::List(_) | Expr::ListComp(_) => Binding::Value("a list"),
            Expr::Dict(_) | Expr::DictComp(_) => Binding::Value("a dict"),
            Expr::Set(_) | Expr::SetComp(_) => Binding::Value("a set"),
            Expr::Tuple(_) => Binding::Value("a tuple"),
            Expr::Generator(_) => Binding::Value("a generator"),
            _ => Binding::Unclear("made by an expression".to_owned()),
        };
        vec![binding]
    }

    /// What a call of `callee` gives: known for a simple class of this file that has a `__call__`.
    fn instance(&self, callee: &Expr) -> Binding<'a> {
        let possible = callee.as_name_expr().map(|name| self.possible(&name.id)).unwrap_or_default();
        match possible.as_slice() {
            [(Binding::Class(_, Some(call)), _)] => Binding::Function(call.clone()),
            [(Binding::Class(class, None), _)] => Binding::Unclear(format!("an instance of the class `{}`", shown(&class.name))),
            _ => Binding::Unclear("made by a call".to_owned()),
        }
    }

    /// What a `def` binds its name to.
    pub(super) fn function(&self, function: &'a StmtFunctionDef) -> Binding<'a> {
        let mut wrapper = Wrapper::None;
        for decorator in &function.decorator_list {
            let name = written(decorator);
            let full = self.dotted(callee(&decorator.expression)).unwrap_or_default();
            if FAMILIAR.contains(&full.as_str()) {
                if wrapper == Wrapper::None {
                    wrapper = Wrapper::Familiar(name);
                }
            } else if !TRANSPARENT.contains(&full.as_str()) {
                wrapper = Wrapper::Unknown(name);
            }
        }
        Binding::Function(Function { wrapper, ..plain(function) })
    }

    /// The dotted name of what `expression` was imported as.
    fn dotted(&self, expression: &Expr) -> Option<String> {
        match expression {
            Expr::Name(name) => match self.possible(&name.id).as_slice() {
                [(Binding::Imported(path), _)] => Some(path.clone()),
                _ => None,
            },
            Expr::Attribute(attribute) => Some(format!("{}.{}", self.dotted(&attribute.value)?, attribute.attr)),
            _ => None,
        }
    }
}

/// What a `class` binds its name to.
pub(super) fn class(class: &StmtClassDef) -> Binding<'_> {
    let inherits = class.arguments.as_ref().is_some_and(|arguments| !arguments.is_empty());
    let is_simple = class.body.iter().all(|statement| match statement {
        Stmt::FunctionDef(function) => function.name.as_str() != "__new__",
        Stmt::Assign(assign) => {
            assign.targets.iter().all(|target| target.as_name_expr().is_some_and(|name| name.id.as_str() != "__call__"))
        }
        Stmt::Pass(_) | Stmt::Expr(_) | Stmt::AnnAssign(_) => true,
        _ => false,
    });
    let methods = class.body.iter().filter_map(Stmt::as_function_def_stmt);
    let calls: Vec<&StmtFunctionDef> = methods.filter(|function| function.name.as_str() == "__call__").collect();
    let call = match calls.as_slice() {
        [call] if is_simple && !inherits && class.decorator_list.is_empty() && is_method(call) => {
            Some(Function { bound: true, ..plain(call) })
        }
        _ => None,
    };
    Binding::Class(class, call)
}

fn plain(function: &StmtFunctionDef) -> Function<'_> {
    let gives = match (function.is_async, python_dynamic::is_generator(&function.body)) {
        (_, true) => Gives::Generator,
        (true, false) => Gives::Coroutine,
        (false, false) => Gives::Value,
    };
    Function { parameters: Some(&function.parameters), bound: false, gives, wrapper: Wrapper::None }
}

/// Whether a function of a class takes the instance as its first argument.
fn is_method(function: &StmtFunctionDef) -> bool {
    let parameters = &function.parameters;
    let has_first = !parameters.posonlyargs.is_empty() || !parameters.args.is_empty() || parameters.vararg.is_some();
    function.decorator_list.is_empty() && has_first
}

fn yields(expression: &Expr) -> bool {
    any_over_expr(expression, |part| matches!(part, Expr::Yield(_) | Expr::YieldFrom(_)))
}

/// The decorator without its arguments.
fn callee(expression: &Expr) -> &Expr {
    if let Expr::Call(call) = expression { &call.func } else { expression }
}

/// The decorator as it is written, for messages.
fn written(decorator: &Decorator) -> String {
    fn name(expression: &Expr) -> Option<String> {
        match expression {
            Expr::Name(name) => Some(name.id.to_string()),
            Expr::Attribute(attribute) => Some(format!("{}.{}", name(&attribute.value)?, attribute.attr)),
            _ => None,
        }
    }
    name(callee(&decorator.expression)).map_or_else(|| "a decorator".to_owned(), |name| format!("`@{}`", shown(&name)))
}
