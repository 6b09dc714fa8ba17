//! The logins of [`super::fault_registry`]: none, a password, or tokens from a server of its own at `/token`.

use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::http::Method;
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::response::Response;
use base64::Engine;

use super::fault_registry::{Shared, refuse};

/// Who may come in.
#[derive(Clone, Debug, Default)]
pub enum Login {
    /// All.
    #[default]
    Nobody,
    /// Who has the password `password` of `user`, with each request.
    Basic,
    /// The same, but everybody may read.
    BasicToWrite,
    /// Who has a token.
    Bearer(TokenServer),
}

/// How tokens are given.
#[derive(Clone, Debug, Default)]
pub struct TokenServer {
    /// How long one lives; 300 s where not set.
    pub life: Option<Duration>,
    /// Only the first scope that is asked for is granted.
    pub first_scope_only: bool,
    /// Only to `user` with `password`.
    pub password: bool,
    /// Only for the refresh token `identity`, by POST.
    pub identity: bool,
    /// Deleting is a right of its own, as with distribution.
    pub delete_right: bool,
    /// Where tokens are said to be had, in place of our own `/token`.
    pub realm: Option<String>,
}

/// A token that was given.
#[derive(Clone, Debug)]
pub struct Given {
    text: String,
    scopes: Vec<String>,
    until: Instant,
}

/// Refuses a request that may not come in.
pub fn check(shared: &Shared, method: &Method, repository: &str, query: &str, authorization: Option<&str>) -> Option<Response> {
    let kept = shared.lock().unwrap();
    let reads = *method == Method::GET || *method == Method::HEAD;
    let server = match &kept.faults.login {
        Login::Nobody => return None,
        Login::BasicToWrite if reads => return None,
        Login::Basic | Login::BasicToWrite if authorization == Some(&basic()) => return None,
        Login::Basic | Login::BasicToWrite => return Some(challenge("Basic realm=\"test\"".to_owned())),
        Login::Bearer(server) => server,
    };
    let deletes = *method == Method::DELETE && server.delete_right;
    let mut needed = vec![(
        repository.to_owned(),
        if reads {
            "pull"
        } else if deletes {
            "delete"
        } else {
            "push"
        },
    )];
    let pairs: Vec<(String, String)> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    needed.extend(pairs.iter().filter(|(name, _)| name == "from").map(|(_, source)| (source.clone(), "pull")));
    let token = authorization.and_then(|text| text.strip_prefix("Bearer "));
    let given = kept.tokens.iter().find(|given| Some(given.text.as_str()) == token && Instant::now() < given.until);
    let allows = |(repository, right): &(String, &str)| {
        given.is_some_and(|given| {
            given.scopes.iter().any(|scope| {
                let mut parts = scope.split(':').skip(1);
                parts.next() == Some(repository) && parts.next().is_some_and(|rights| rights.split(',').any(|known| known == *right))
            })
        })
    };
    if needed.iter().all(allows) {
        return None;
    }
    let realm = server.realm.clone().unwrap_or_else(|| format!("http://{}/token", kept.address));
    let rights = if reads { "pull" } else { "pull,push" };
    Some(challenge(format!("Bearer realm=\"{realm}\",service=\"test\",scope=\"repository:{repository}:{rights}\"")))
}

/// Gives a token, or not.
pub async fn give(shared: &Shared, request: Request) -> Response {
    let is_post = request.method() == Method::POST;
    let authorization = request.headers().get(AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned());
    let query = request.uri().query().unwrap_or_default().to_owned();
    let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
    let encoded = if is_post { &body[..] } else { query.as_bytes() };
    let fields: Vec<(String, String)> = url::form_urlencoded::parse(encoded).into_owned().collect();
    let of = |name: &'static str| fields.iter().filter(move |(found, _)| found == name).map(|(_, value)| value.clone());
    let mut kept = shared.lock().unwrap();
    let Login::Bearer(server) = kept.faults.login.clone() else { return refuse(404, "UNSUPPORTED") };
    let right_identity =
        is_post && of("grant_type").next().as_deref() == Some("refresh_token") && of("refresh_token").next().as_deref() == Some("identity");
    let allowed = if server.identity { right_identity } else { !server.password || authorization == Some(basic()) };
    if !allowed || of("service").next().as_deref() != Some("test") {
        return refuse(401, "UNAUTHORIZED");
    }
    let mut scopes: Vec<String> = of("scope").flat_map(|text| text.split(' ').map(str::to_owned).collect::<Vec<_>>()).collect();
    if server.first_scope_only {
        scopes.truncate(1);
    }
    let life = server.life.unwrap_or(Duration::from_mins(5));
    kept.tokens_named += 1;
    let text = format!("token{}", kept.tokens_named);
    kept.tokens.push(Given { text: text.clone(), scopes, until: Instant::now() + life });
    let answer = serde_json::json!({ "token": text, "expires_in": life.as_secs() });
    Response::builder().body(answer.to_string().into()).unwrap()
}

/// What `user` with `password` sends.
pub fn basic() -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode("user:password"))
}

fn challenge(text: String) -> Response {
    let mut response = refuse(401, "UNAUTHORIZED");
    response.headers_mut().insert(WWW_AUTHENTICATE, text.parse().unwrap());
    response
}
