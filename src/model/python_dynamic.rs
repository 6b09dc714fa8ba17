//! What in a Python module binds names elsewhere than in a statement of the module: `exec`, `globals()`, `global`, captures.
//!
//! It looks at every expression of the file, functions included, and says only that it is there. Reading `globals()` is harmless, writing is not.

use std::collections::BTreeMap;

use ruff_python_ast::Expr;
use ruff_python_ast::ExprCall;
use ruff_python_ast::ExprContext;
use ruff_python_ast::Identifier;
use ruff_python_ast::Keyword;
use ruff_python_ast::Pattern;
use ruff_python_ast::Stmt;
use ruff_python_ast::visitor::Visitor;
use ruff_python_ast::visitor::walk_expr;
use ruff_python_ast::visitor::walk_keyword;
use ruff_python_ast::visitor::walk_pattern;
use ruff_python_ast::visitor::walk_stmt;
use ruff_text_size::Ranged;

/// What was found.
#[derive(Default)]
pub(super) struct Dynamic {
    /// The first place where names are made out of strings, and how.
    pub dynamic: Option<(usize, String)>,
    /// Names that a function may assign (`global`), or that `:=` or a pattern binds: where, and how.
    pub elsewhere: BTreeMap<String, (usize, &'static str)>,
}

/// Looks through all of `suite`.
pub(super) fn look(suite: &[Stmt]) -> Dynamic {
    let mut found = Dynamic::default();
    found.visit_body(suite);
    found
}

/// Whether a function with this body is a generator: a `yield` of its own, not one of a function inside it.
pub(super) fn is_generator(body: &[Stmt]) -> bool {
    struct Yields(bool);
    impl<'a> Visitor<'a> for Yields {
        fn visit_stmt(&mut self, statement: &'a Stmt) {
            if !matches!(statement, Stmt::FunctionDef(_) | Stmt::ClassDef(_)) && !self.0 {
                walk_stmt(self, statement);
            }
        }

        fn visit_expr(&mut self, expression: &'a Expr) {
            self.0 |= matches!(expression, Expr::Yield(_) | Expr::YieldFrom(_));
            if !matches!(expression, Expr::Lambda(_)) && !self.0 {
                walk_expr(self, expression);
            }
        }
    }
    let mut yields = Yields(false);
    yields.visit_body(body);
    yields.0
}

impl Dynamic {
    fn bound(&mut self, name: &Identifier, how: &'static str) {
        self.elsewhere.entry(name.to_string()).or_insert((name.start().to_usize(), how));
    }

    fn note(&mut self, offset: usize, how: &str) {
        self.dynamic.get_or_insert_with(|| (offset, how.to_owned()));
    }
}

impl<'a> Visitor<'a> for Dynamic {
    fn visit_stmt(&mut self, statement: &'a Stmt) {
        if let Stmt::Global(global) = statement {
            global.names.iter().for_each(|name| self.bound(name, "may be assigned by a function that declares it `global`"));
        }
        walk_stmt(self, statement);
    }

    fn visit_expr(&mut self, expression: &'a Expr) {
        match expression {
            Expr::Named(named) => {
                if let Expr::Name(name) = &*named.target {
                    self.elsewhere.entry(name.id.to_string()).or_insert((name.start().to_usize(), "may be assigned inside an expression"));
                }
            }
            Expr::Call(call) if is_call_of(call, &["exec", "eval"]) => self.note(call.start().to_usize(), "`exec` or `eval`"),
            Expr::Call(call) if is_namespace(call) => self.note(call.start().to_usize(), "`globals()`"),
            // The module as an object: `sys.modules[__name__]`, `import_module(__name__)`.
            Expr::Subscript(part) if is_own_name(&part.slice) => self.note(part.start().to_usize(), "`sys.modules`"),
            Expr::Call(call) if is_import_of_itself(call) => self.note(call.start().to_usize(), "an import of the module by itself"),
            // Only read: neither the dict nor the module goes anywhere.
            Expr::Subscript(part) if part.ctx == ExprContext::Load && is_namespace_expr(&part.value) => {
                self.visit_expr(&part.slice);
                return;
            }
            Expr::Attribute(part) if is_reading_method(&part.attr) && is_namespace_expr(&part.value) => return,
            Expr::Compare(compare) if compare.comparators.iter().all(is_namespace_expr) => {
                self.visit_expr(&compare.left);
                return;
            }
            _ => {}
        }
        walk_expr(self, expression);
    }

    fn visit_keyword(&mut self, keyword: &'a Keyword) {
        // `f(**locals())` copies.
        if keyword.arg.is_some() || !is_namespace_expr(&keyword.value) {
            walk_keyword(self, keyword);
        }
    }

    fn visit_pattern(&mut self, pattern: &'a Pattern) {
        let name = match pattern {
            Pattern::MatchAs(capture) => capture.name.as_ref(),
            Pattern::MatchStar(star) => star.name.as_ref(),
            Pattern::MatchMapping(mapping) => mapping.rest.as_ref(),
            _ => None,
        };
        if let Some(name) = name {
            self.bound(name, "may be assigned by a pattern");
        }
        walk_pattern(self, pattern);
    }
}

fn is_call_of(call: &ExprCall, names: &[&str]) -> bool {
    call.func.as_name_expr().is_some_and(|name| names.contains(&name.id.as_str()))
}

/// `globals()`, `locals()`, `vars()`: the module's names as a dict.
fn is_namespace(call: &ExprCall) -> bool {
    call.arguments.is_empty() && is_call_of(call, &["globals", "locals", "vars"])
}

fn is_namespace_expr(expression: &Expr) -> bool {
    expression.as_call_expr().is_some_and(is_namespace)
}

fn is_own_name(expression: &Expr) -> bool {
    expression.as_name_expr().is_some_and(|name| name.id.as_str() == "__name__")
}

fn is_import_of_itself(call: &ExprCall) -> bool {
    let imports = match &*call.func {
        Expr::Name(name) => ["import_module", "__import__"].contains(&name.id.as_str()),
        Expr::Attribute(attribute) => attribute.attr.as_str() == "import_module",
        _ => false,
    };
    imports && call.arguments.args.first().is_some_and(is_own_name)
}

fn is_reading_method(name: &str) -> bool {
    ["get", "keys", "values", "items", "copy", "__contains__"].contains(&name)
}
