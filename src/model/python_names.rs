//! A Python module's tree → what each of its names may be when the module has been imported.
//!
//! Read in order, last definition first; what stands in a branch, a loop or a `try` is possible beside what was before it. So the possibilities of
//! a name are never too few, and what none of them can do, the module cannot. It judges nothing.
//!
//! What must stay true: a name that may be made in a way that is not seen here (`exec`, `globals()`, `from m import *`) has [`Binding::Unclear`]
//! among its possibilities. Not looked for: another module that writes into this one.

use std::collections::BTreeMap;

use ruff_python_ast::Expr;
use ruff_python_ast::Stmt;
use ruff_python_ast::StmtIf;
use ruff_python_ast::StmtImportFrom;
use ruff_python_ast::StmtTry;
use ruff_text_size::Ranged;

use super::python_binding;
use super::python_binding::Binding;
use super::python_dynamic;
use crate::contract::contract::shown;

/// More possibilities than these are one that is unclear.
pub(super) const POSSIBILITIES_MAX: usize = 16;

/// One place that binds a name.
struct Definition<'a> {
    /// What it may be bound to there.
    bindings: Vec<Binding<'a>>,
    /// Where in the text.
    offset: usize,
    /// Whether it happens for certain, so that what was before it is gone.
    certain: bool,
}

/// The names of a module.
#[derive(Default)]
pub(super) struct Names<'a> {
    /// The definitions since the last one that happens for certain, that one first.
    by_name: BTreeMap<String, Vec<Definition<'a>>>,
    /// The last `from m import *`: where, and which module.
    star: Option<(usize, String)>,
    /// Names that are bound at any time: where, and how.
    elsewhere: BTreeMap<String, (usize, &'static str)>,
    /// Where names are made out of strings, and how.
    pub dynamic: Option<(usize, String)>,
}

/// The names that `suite` binds.
pub(super) fn read(suite: &[Stmt]) -> Names<'_> {
    let found = python_dynamic::look(suite);
    let mut names = Names { dynamic: found.dynamic, elsewhere: found.elsewhere, ..Names::default() };
    names.block(suite, true);
    names
}

impl<'a> Names<'a> {
    /// What `name` may be at the end, and where that is said; nothing at all where it is never bound.
    pub fn possible(&self, name: &str) -> Vec<(Binding<'a>, usize)> {
        let definitions = self.by_name.get(name).map(Vec::as_slice).unwrap_or_default();
        let mut possible: Vec<(Binding<'a>, usize)> = Vec::new();
        for definition in definitions.iter().take(POSSIBILITIES_MAX + 1) {
            possible.extend(definition.bindings.iter().map(|binding| (binding.clone(), definition.offset)));
        }
        let from = definitions.first().filter(|first| first.certain).map_or(0, |first| first.offset);
        if let Some((offset, module)) = self.star.as_ref().filter(|(offset, _)| *offset >= from) {
            possible.push((Binding::Unclear(format!("may come from `from {} import *`", shown(module))), *offset));
        }
        if let Some((offset, how)) = self.elsewhere.get(name) {
            possible.push((Binding::Unclear((*how).to_owned()), *offset));
        }
        if possible.len() > POSSIBILITIES_MAX {
            let offset = possible[0].1;
            possible = vec![(Binding::Unclear("may be one of many things".to_owned()), offset)];
        }
        possible
    }

    /// Whether a statement of the module binds `name`.
    pub fn defines(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// The names of the functions that the module has, in the order of the text.
    pub fn functions(&self) -> Vec<&str> {
        let is_function = |definition: &Definition<'_>| definition.bindings.iter().any(|binding| matches!(binding, Binding::Function(_)));
        let mut found: Vec<(usize, &str)> = Vec::new();
        for (name, definitions) in &self.by_name {
            found
                .extend(definitions.iter().find(|definition| is_function(definition)).map(|definition| (definition.offset, name.as_str())));
        }
        found.sort_unstable();
        found.into_iter().map(|(_, name)| name).collect()
    }

    fn bind(&mut self, name: &str, binding: Binding<'a>, offset: usize, certain: bool) {
        self.bind_any(name, vec![binding], offset, certain);
    }

    fn bind_any(&mut self, name: &str, bindings: Vec<Binding<'a>>, offset: usize, certain: bool) {
        let definitions = self.by_name.entry(name.to_owned()).or_default();
        if certain {
            definitions.clear();
        }
        definitions.push(Definition { bindings, offset, certain });
    }

    fn block(&mut self, suite: &'a [Stmt], certain: bool) {
        for statement in suite {
            self.statement(statement, certain);
        }
    }

    fn statement(&mut self, statement: &'a Stmt, certain: bool) {
        let offset = statement.start().to_usize();
        match statement {
            Stmt::FunctionDef(function) => {
                let binding = self.function(function);
                self.bind(&function.name, binding, function.name.start().to_usize(), certain);
            }
            Stmt::ClassDef(class) => self.bind(&class.name, python_binding::class(class), class.name.start().to_usize(), certain),
            Stmt::Assign(assign) => {
                let bindings = self.value(&assign.value);
                assign.targets.iter().for_each(|target| self.target(target, &bindings, certain));
            }
            Stmt::AnnAssign(assign) => {
                if let Some(value) = &assign.value {
                    let bindings = self.value(value);
                    self.target(&assign.target, &bindings, certain);
                }
            }
            Stmt::AugAssign(assign) => self.target(&assign.target, &[Binding::Unclear("changed in place".to_owned())], certain),
            Stmt::TypeAlias(alias) => self.target(&alias.name, &[Binding::Value("a type")], certain),
            Stmt::Delete(delete) => delete.targets.iter().for_each(|target| self.target(target, &[Binding::Absent], certain)),
            Stmt::Import(import) => {
                for alias in &import.names {
                    let top = alias.name.split('.').next().unwrap_or_default();
                    let (name, path) = alias.asname.as_ref().map_or((top, top), |name| (name.as_str(), alias.name.as_str()));
                    self.bind(name, Binding::Imported(path.to_owned()), offset, certain);
                }
            }
            Stmt::ImportFrom(import) => self.import_from(import, offset, certain),
            Stmt::If(branches) => self.branches(branches),
            Stmt::Try(parts) => self.try_parts(parts, certain),
            Stmt::For(each) => {
                self.target(&each.target, &[Binding::Unclear("the variable of a loop".to_owned())], false);
                self.block(&each.body, false);
                self.block(&each.orelse, false);
            }
            Stmt::While(repeat) => {
                self.block(&repeat.body, false);
                self.block(&repeat.orelse, false);
            }
            Stmt::With(with) => {
                for target in with.items.iter().filter_map(|item| item.optional_vars.as_deref()) {
                    self.target(target, &[Binding::Unclear("given by a `with`".to_owned())], certain);
                }
                // A context manager may swallow what ends the block early.
                self.block(&with.body, false);
            }
            Stmt::Match(choice) => choice.cases.iter().for_each(|case| self.block(&case.body, false)),
            _ => {}
        }
    }

    fn import_from(&mut self, import: &'a StmtImportFrom, offset: usize, certain: bool) {
        let module = format!("{}{}", ".".repeat(import.level as usize), import.module.as_ref().map_or("", |module| module.as_str()));
        for alias in &import.names {
            if alias.name.as_str() == "*" {
                self.star = Some((offset, module.clone()));
            } else {
                let name = alias.asname.as_ref().unwrap_or(&alias.name);
                self.bind(name, Binding::Imported(format!("{module}.{}", alias.name)), offset, certain);
            }
        }
    }

    fn branches(&mut self, branches: &'a StmtIf) {
        // What is only done when the file is run by itself is not done by the runtime, which imports it.
        if !is_main_guard(&branches.test) {
            self.block(&branches.body, false);
        }
        for clause in &branches.elif_else_clauses {
            if !clause.test.as_ref().is_some_and(is_main_guard) {
                self.block(&clause.body, false);
            }
        }
    }

    fn try_parts(&mut self, parts: &'a StmtTry, certain: bool) {
        self.block(&parts.body, certain && parts.handlers.is_empty());
        for handler in &parts.handlers {
            let ruff_python_ast::ExceptHandler::ExceptHandler(handler) = handler;
            if let Some(name) = &handler.name {
                self.bind(name, Binding::Absent, name.start().to_usize(), false);
            }
            self.block(&handler.body, false);
        }
        self.block(&parts.orelse, certain && parts.handlers.is_empty());
        self.block(&parts.finalbody, certain);
    }

    fn target(&mut self, target: &'a Expr, bindings: &[Binding<'a>], certain: bool) {
        match target {
            Expr::Name(name) => self.bind_any(&name.id, bindings.to_vec(), name.start().to_usize(), certain),
            Expr::Starred(starred) => self.target(&starred.value, &[Binding::Value("a list")], certain),
            Expr::Tuple(_) | Expr::List(_) => {
                let parts = if let Expr::Tuple(tuple) = target { &tuple.elts } else { &target.as_list_expr().expect("matched above").elts };
                let part = match bindings {
                    [Binding::Absent] => Binding::Absent,
                    _ => Binding::Unclear("unpacked from another value".to_owned()),
                };
                for target in parts {
                    self.target(target, std::slice::from_ref(&part), certain);
                }
            }
            _ => {}
        }
    }
}

/// `__name__ == "__main__"`.
fn is_main_guard(test: &Expr) -> bool {
    let Expr::Compare(compare) = test else { return false };
    let is_name = |side: &Expr| side.as_name_expr().is_some_and(|name| name.id.as_str() == "__name__");
    let is_main = |side: &Expr| side.as_string_literal_expr().is_some_and(|text| text.value.to_str() == "__main__");
    match (&*compare.ops, &*compare.comparators) {
        ([ruff_python_ast::CmpOp::Eq], [right]) => (is_name(&compare.left) && is_main(right)) || (is_main(&compare.left) && is_name(right)),
        _ => false,
    }
}
