//! What a Python file imports for certain, and what only Python's compiler refuses.
//!
//! From the syntax tree alone. An import that stands in a branch (`if`, `match`), or in a `try` that catches its failure, may be meant to fail and is left
//! out; one inside of a function fails when the function is called. Of a dotted name the first part is what has to be there. The compiler's own refusals
//! that users run into are a `return` or `yield` outside of a function and a `break` or `continue` outside of a loop.
//!
//! What must stay true: it walks what `python_source.rs` has bounded, on the stack that is made for it there.

use ruff_python_ast::ExceptHandler;
use ruff_python_ast::Expr;
use ruff_python_ast::Stmt;
use ruff_python_ast::StmtTry;
use ruff_python_ast::visitor::Visitor;
use ruff_python_ast::visitor::walk_expr;
use ruff_python_ast::visitor::walk_stmt;
use ruff_text_size::Ranged;
use serde::Deserialize;
use serde::Serialize;

/// The most imports that are kept of one file.
const IMPORTS_MAX: usize = 200;

/// A module that a file imports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Import {
    /// The first part of its name.
    pub module: String,
    /// The line, from 1.
    pub line: u64,
    /// Whether it happens when the file itself is imported, and not when a function of it is called.
    pub at_once: bool,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Looked {
    /// The imports, each module once, in the order of the text.
    pub(super) imports: Vec<Import>,
    /// What the compiler refuses, and in which line; the first of them.
    pub(super) refused: Option<(u64, &'static str)>,
}

/// Looks through a file.
pub(super) fn look(text: &str, suite: &[Stmt]) -> Looked {
    let module = Scope { is_function: false, loops: 0 };
    let mut look = Look { text, scopes: vec![module], conditional: 0, imports: Vec::new(), refused: None };
    look.visit_body(suite);
    let mut looked = Looked::default();
    // Lines are counted once, in the order of the text.
    let (mut line, mut counted) = (1, 0);
    let mut line_of = |offset: usize| {
        line += text.get(counted..offset).unwrap_or_default().matches('\n').count() as u64;
        counted = counted.max(offset);
        line
    };
    look.imports.sort_by_key(|(offset, ..)| *offset);
    for (offset, module, at_once) in look.imports {
        looked.imports.push(Import { module, line: line_of(offset), at_once });
    }
    looked.refused = look.refused.map(|(offset, what)| (text.get(..offset).unwrap_or_default().matches('\n').count() as u64 + 1, what));
    looked
}

/// Where a statement stands.
struct Scope {
    is_function: bool,
    loops: usize,
}

struct Look<'a> {
    text: &'a str,
    scopes: Vec<Scope>,
    conditional: usize,
    imports: Vec<(usize, String, bool)>,
    refused: Option<(usize, &'static str)>,
}

impl Look<'_> {
    fn import(&mut self, name: &str, offset: usize) {
        let root = name.split('.').next().unwrap_or_default();
        let is_new = !self.imports.iter().any(|(_, known, _)| known == root);
        if self.conditional == 0 && is_new && !root.is_empty() && self.imports.len() < IMPORTS_MAX && offset <= self.text.len() {
            let at_once = self.scopes.iter().all(|scope| !scope.is_function);
            self.imports.push((offset, root.to_owned(), at_once));
        }
    }

    fn refuse(&mut self, offset: usize, what: &'static str) {
        if self.refused.is_none_or(|(first, _)| offset < first) {
            self.refused = Some((offset, what));
        }
    }

    fn is_function(&self) -> bool {
        self.scopes.last().is_some_and(|scope| scope.is_function)
    }

    fn within(&mut self, is_function: bool, statement: &Stmt) {
        self.scopes.push(Scope { is_function, loops: 0 });
        walk_stmt(self, statement);
        self.scopes.pop();
    }

    fn in_loop(&mut self, body: &[Stmt], orelse: &[Stmt]) {
        self.loops(1);
        self.visit_body(body);
        self.loops(-1);
        self.visit_body(orelse);
    }

    fn loops(&mut self, more: isize) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.loops = scope.loops.saturating_add_signed(more);
        }
    }
}

impl<'a> Visitor<'a> for Look<'_> {
    fn visit_stmt(&mut self, statement: &'a Stmt) {
        let offset = statement.start().to_usize();
        match statement {
            Stmt::Import(import) => import.names.iter().for_each(|alias| self.import(&alias.name, offset)),
            Stmt::ImportFrom(import) if import.level == 0 => {
                self.import(import.module.as_ref().map_or("", |module| module.as_str()), offset);
            }
            Stmt::FunctionDef(_) => self.within(true, statement),
            Stmt::ClassDef(_) => self.within(false, statement),
            Stmt::For(each) => {
                self.visit_expr(&each.iter);
                self.in_loop(&each.body, &each.orelse);
            }
            Stmt::While(each) => {
                self.visit_expr(&each.test);
                self.in_loop(&each.body, &each.orelse);
            }
            Stmt::If(_) | Stmt::Match(_) => {
                self.conditional += 1;
                walk_stmt(self, statement);
                self.conditional -= 1;
            }
            Stmt::Try(attempt) if catches_imports(attempt) => {
                self.conditional += 1;
                walk_stmt(self, statement);
                self.conditional -= 1;
            }
            Stmt::Return(_) if !self.is_function() => self.refuse(offset, "a `return` outside of a function"),
            Stmt::Break(_) | Stmt::Continue(_) if self.scopes.last().is_some_and(|scope| scope.loops == 0) => {
                self.refuse(offset, "a `break` or `continue` outside of a loop");
            }
            _ => walk_stmt(self, statement),
        }
    }

    fn visit_expr(&mut self, expression: &'a Expr) {
        match expression {
            Expr::Lambda(_) => {
                self.scopes.push(Scope { is_function: true, loops: 0 });
                walk_expr(self, expression);
                self.scopes.pop();
            }
            Expr::Yield(_) | Expr::YieldFrom(_) if !self.is_function() => {
                self.refuse(expression.start().to_usize(), "a `yield` outside of a function");
            }
            _ => walk_expr(self, expression),
        }
    }
}

/// Whether a failing import in this `try` goes on in a handler.
fn catches_imports(attempt: &StmtTry) -> bool {
    let catches = |name: &str| ["ImportError", "ModuleNotFoundError", "Exception", "BaseException"].contains(&name);
    let named = |kind: &Expr| match kind {
        Expr::Name(name) => catches(&name.id),
        Expr::Tuple(several) => several.elts.iter().any(|kind| matches!(kind, Expr::Name(name) if catches(&name.id))),
        _ => false,
    };
    attempt.handlers.iter().any(|handler| {
        let ExceptHandler::ExceptHandler(handler) = handler;
        handler.type_.as_deref().is_none_or(named)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::python_source::{self, Parsed};

    fn looked(text: &str) -> Looked {
        match python_source::with_tree(text.as_bytes(), "a.py", None, |text, suite| look(text, suite)).unwrap() {
            Parsed::Seen(looked, _) => looked,
            Parsed::Unread(why) => panic!("{why}"),
        }
    }

    #[test]
    fn what_may_be_meant_to_fail_is_no_import() {
        let text = "import numpy as np, os.path\nfrom sklearn.svm import SVC\nfrom . import own\ntry:\n    import a\nexcept ImportError:\n    import b\n\
                    try:\n    import c\nexcept ValueError:\n    pass\nif x:\n    import d\ndef f():\n    import e\n    import numpy\n";
        let found: Vec<(String, u64, bool)> =
            looked(text).imports.into_iter().map(|import| (import.module, import.line, import.at_once)).collect();
        let expected = [("numpy", 1, true), ("os", 1, true), ("sklearn", 2, true), ("c", 9, true), ("e", 15, false)];
        assert_eq!(found, expected.map(|(module, line, at_once)| (module.to_owned(), line, at_once)));
    }

    #[test]
    fn what_only_the_compiler_refuses_is_seen() {
        for (text, refused) in [
            ("x = 1\nreturn x\n", Some((2, "a `return` outside of a function"))),
            ("class A:\n    yield 1\n", Some((2, "a `yield` outside of a function"))),
            ("for a in b:\n    pass\nelse:\n    break\n", Some((4, "a `break` or `continue` outside of a loop"))),
            ("while x:\n    def f():\n        continue\n", Some((3, "a `break` or `continue` outside of a loop"))),
            ("def f():\n    for a in b:\n        if a: break\n    return (yield 1)\nx = lambda: (yield)\n", None),
        ] {
            assert_eq!(looked(text).refused, refused, "{text}");
        }
    }
}
