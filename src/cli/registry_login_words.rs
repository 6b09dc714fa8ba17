//! What a doctor's finding about the login means: who we are to a registry, and what of that was proven.

use super::registry_words::{Words, help, hurts, note, ok};
use crate::registry::credentials::Origin;
use crate::registry::doctor_findings::{Identity, Login, Proof, Scheme};

/// The words for a login at `registry`.
pub(super) fn login(login: &Login, registry: &str) -> Words {
    let who = who(login);
    let wants = match &login.scheme {
        Scheme::Nothing => "it asks for no login".to_owned(),
        Scheme::Basic => "it wants a password".to_owned(),
        Scheme::Bearer { realm } => format!("it wants tokens of {realm}"),
        Scheme::Unknown => {
            return hurts(format!("it wants a login of a kind that is not known here; {who}"), "nothing can be pulled or pushed");
        }
    };
    let log_in = format!("`docker login {registry}`, `podman login {registry}`, or `username` and `password` for registry `{registry}`");
    let is_guest = login.identity == Identity::Anonymous;
    match (&login.scheme, &login.proof) {
        (Scheme::Nothing, _) if is_guest => ok(wants),
        (Scheme::Nothing, Proof::NotNeeded) => ok(format!("{wants}, not even for a push, and was told of none; where it did: {who}")),
        (Scheme::Basic, _) if is_guest => help(hurts(format!("{wants}, and {who}"), "nothing can be pulled or pushed"), log_in),
        (_, _) if is_guest => help(note(format!("{wants}, and {who}"), "we are a guest, who may seldom push"), log_in),
        (Scheme::Basic, _) if login.identity == Identity::Token => {
            help(hurts(format!("{wants}, and {who}"), "the token is of no use there"), log_in)
        }
        (_, Proof::Taken) => ok(format!("{wants}; {who}, and that was taken")),
        (_, Proof::Refused(answer)) => help(
            hurts(
                format!("{wants}; {who}, and that is refused: {answer}"),
                "nothing can be pushed, and pulled at most what is open to all",
            ),
            log_in,
        ),
        (_, Proof::AnyTaken) => note(
            format!("{wants}, and takes whatever name and password it is told; {who}, and whether that is right is not known"),
            "a wrong password shows only when something is refused that it would allow",
        ),
        (_, Proof::Unclear(problem)) => note(
            format!("{wants}; {who}, and whether that is right could not be found out: {problem}"),
            "a wrong password shows only with the first push",
        ),
        (_, Proof::NotTried | Proof::NotNeeded) => note(
            format!("{wants} to be read, and was told of none; {who}, and whether that is right was not tried"),
            "where it asks for a login later, a wrong password shows only then",
        ),
    }
}

fn who(login: &Login) -> String {
    let place = match &login.origin {
        Origin::Nowhere => String::new(),
        Origin::Settings => ", from the settings".to_owned(),
        Origin::File(path) => format!(", from `{}`", path.display()),
        Origin::Helper { helper, path } => format!(", from `{helper}`, which `{}` names", path.display()),
    };
    match &login.identity {
        Identity::Anonymous => "there are no credentials for it".to_owned(),
        Identity::User(name) => format!("we are `{name}`, password ****{place}"),
        Identity::Token => format!("we have an identity token ****{place}"),
    }
}
