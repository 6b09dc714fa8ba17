//! The `Authorization` of a request: none, a password, or a token that was fetched for what the request does.
//!
//! Nothing is asked in advance: a registry that wants to know who we are answers 401 and says how ([`Challenge`]). From
//! then on its requests are authorised before they are sent. Tokens are kept by their scopes until shortly before they
//! end, and fetched by one task at a time. What must stay true: a password goes to the registry or to the server that
//! the registry names, a token to the registry only; neither to plain HTTP where the registry itself speaks TLS.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use base64::Engine;
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde::Deserialize;
use tokio::sync::Mutex;
use url::Url;

use super::challenge::Challenge;
use super::credentials::{Credential, CredentialError, CredentialSources, Origin};
use super::error::{Action, RegistryError};
use super::settings::Secret;
use super::wire::{Payload, Wire};

/// The life of a token whose server does not say (distribution, "Token Authentication").
const TOKEN_LIFE_DEFAULT_S: u64 = 60;

/// The longest life that is believed.
const TOKEN_LIFE_MAX_S: u64 = 24 * 3600;

/// How long before its end a token is no longer used.
const TOKEN_MARGIN: Duration = Duration::from_secs(10);

/// The most that a server of tokens may answer.
const TOKEN_BYTES_MAX: usize = 1 << 20;

/// What we call ourselves where OAuth 2 wants a client id.
const CLIENT_ID: &str = "lamina";

/// What a request does, in the words of token servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// The repository.
    pub repository: String,
    /// What it does there.
    pub rights: Rights,
}

/// What is done to a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// It is read.
    Pull,
    /// It is read and written.
    Push,
    /// Something is taken out of it (distribution has a right of its own for that).
    Delete,
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rights = match self.rights {
            Rights::Pull => "pull",
            Rights::Push => "pull,push",
            Rights::Delete => "pull,push,delete",
        };
        write!(f, "repository:{}:{rights}", self.repository)
    }
}

/// The authorisations of one registry.
pub struct Tokens {
    sources: CredentialSources,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    challenge: Option<Challenge>,
    credentials: BTreeMap<String, Credential>,
    tokens: BTreeMap<String, Token>,
}

pub(super) struct Token {
    header: HeaderValue,
    renew_at: Instant,
}

#[derive(Deserialize)]
struct TokenAnswer {
    #[serde(default)]
    token: Option<Secret>,
    #[serde(default)]
    access_token: Option<Secret>,
    #[serde(default)]
    expires_in: Option<serde_json::Value>,
}

impl Tokens {
    /// None yet.
    pub fn new(sources: CredentialSources) -> Tokens {
        Tokens { sources, state: Mutex::new(State::default()) }
    }

    /// Who we are to the registry when it is about `repository`, and where that was found.
    pub async fn identity(&self, repository: &str) -> Result<(Credential, Origin), CredentialError> {
        self.sources.find(repository).await
    }

    /// How the registry has said last that it wants to be asked.
    pub async fn challenge(&self) -> Option<Challenge> {
        self.state.lock().await.challenge.clone()
    }

    /// What to send with a request that does `scopes`, as far as the registry has said that it wants something.
    pub async fn ready(&self, wire: &Wire, action: &Action, scopes: &[Scope]) -> Result<Option<HeaderValue>, RegistryError> {
        let mut state = self.state.lock().await;
        match state.challenge.clone() {
            None => Ok(None),
            Some(challenge) => self.authorize(&mut state, wire, action, scopes, &challenge).await,
        }
    }

    /// What to send after a 401 with these `headers`; `refused` is what was sent. Nothing, where that would be the same again.
    pub async fn renew(
        &self,
        wire: &Wire,
        action: &Action,
        scopes: &[Scope],
        headers: &HeaderMap,
        refused: Option<&HeaderValue>,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        let Some(challenge) = Challenge::of(headers) else { return Ok(None) };
        let mut state = self.state.lock().await;
        state.challenge = Some(challenge.clone());
        // What was refused is forgotten, unless another task has renewed it meanwhile.
        if let Some(refused) = refused {
            state.tokens.retain(|_, token| token.header != refused);
            if let Some(scope) = scopes.first() {
                state.credentials.remove(&scope.repository);
            }
        }
        let header = self.authorize(&mut state, wire, action, scopes, &challenge).await?;
        Ok(header.filter(|header| Some(header) != refused))
    }

    async fn authorize(
        &self,
        state: &mut State,
        wire: &Wire,
        action: &Action,
        scopes: &[Scope],
        challenge: &Challenge,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        let Challenge::Bearer { realm, service, scope } = challenge else {
            return match self.credential(state, action, scopes).await? {
                Credential::Basic { username, password } => Ok(Some(basic(&username, &password))),
                Credential::Anonymous | Credential::Identity(_) => Ok(None),
            };
        };
        // What is about no repository is asked for in the registry's own words.
        let mut wanted: Vec<String> =
            if scopes.is_empty() { scope.iter().cloned().collect() } else { scopes.iter().map(Scope::to_string).collect() };
        // A registry under a path prefix may know its repositories by other names; its own words are added to ours. Ours stay
        // first: some servers grant the first scope only (go-containerregistry keeps the same order).
        if let Some(named) = scope.as_ref().filter(|_| !scopes.is_empty()) {
            let path = named.split(':').nth(1).unwrap_or_default();
            if scopes.iter().all(|scope| scope.repository != path && path.ends_with(&scope.repository)) && !path.is_empty() {
                wanted.push(named.clone());
            }
        }
        let key = wanted.join(" ");
        if let Some(token) = state.tokens.get(&key).filter(|token| Instant::now() < token.renew_at) {
            return Ok(Some(token.header.clone()));
        }
        let credential = self.credential(state, action, scopes).await?;
        let result = fetch(wire, action, realm, service.as_deref(), &wanted, &credential).await;
        match result {
            Ok(token) => {
                let header = token.header.clone();
                state.tokens.insert(key, token);
                Ok(Some(header))
            }
            Err(error) => {
                // A changed password is read again the next time.
                state.credentials.clear();
                Err(error)
            }
        }
    }

    async fn credential(&self, state: &mut State, action: &Action, scopes: &[Scope]) -> Result<Credential, RegistryError> {
        let repository = scopes.first().map(|scope| scope.repository.as_str()).unwrap_or_default();
        if let Some(known) = state.credentials.get(repository) {
            return Ok(known.clone());
        }
        let found = self
            .sources
            .look_up(repository)
            .await
            .map_err(|source| RegistryError::Credentials { action: action.clone(), source: Box::new(source) })?;
        state.credentials.insert(repository.to_owned(), found.clone());
        Ok(found)
    }
}

/// Gets a token: by GET with a password or with nothing, by POST with an identity token.
pub(super) async fn fetch(
    wire: &Wire,
    action: &Action,
    realm: &str,
    service: Option<&str>,
    scopes: &[String],
    credential: &Credential,
) -> Result<Token, RegistryError> {
    let astray = |source| RegistryError::Astray { action: action.clone(), source };
    let mut url: Url = wire.address.follow(&wire.address.base, realm).map_err(astray)?;
    let mut headers = HeaderMap::new();
    let form;
    let (method, payload) = match credential {
        Credential::Identity(token) => {
            let mut fields = url::form_urlencoded::Serializer::new(String::new());
            fields.append_pair("grant_type", "refresh_token").append_pair("client_id", CLIENT_ID);
            fields.append_pair("service", service.unwrap_or_default()).append_pair("scope", &scopes.join(" "));
            fields.append_pair("refresh_token", token.expose());
            form = fields.finish();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
            (Method::POST, Payload::Bytes(form.into_bytes().into()))
        }
        Credential::Basic { .. } | Credential::Anonymous => {
            let mut query = url.query_pairs_mut();
            if let Some(service) = service {
                query.append_pair("service", service);
            }
            for scope in scopes {
                query.append_pair("scope", scope);
            }
            drop(query);
            if let Credential::Basic { username, password } = credential {
                headers.insert(reqwest::header::AUTHORIZATION, basic(username, password));
            }
            (Method::GET, Payload::Empty)
        }
    };
    let response = wire.exchange(action, &method, &url, headers, &payload).await?;
    if !response.status().is_success() {
        let answer = Box::new(wire.read_answer(response).await);
        return Err(RegistryError::NoToken { action: action.clone(), realm: super::address::origin_text(&url), answer });
    }
    let bytes = wire.read_body(action, response, TOKEN_BYTES_MAX).await?;
    read_token(action, &bytes)
}

fn read_token(action: &Action, bytes: &[u8]) -> Result<Token, RegistryError> {
    let protocol = |problem: &str| RegistryError::Protocol { action: action.clone(), problem: problem.to_owned() };
    let answer: TokenAnswer = serde_json::from_slice(bytes).map_err(|_| protocol("what the token server answered is not a token"))?;
    let secret = answer.token.or(answer.access_token).filter(|token| !token.expose().is_empty());
    let secret = secret.ok_or_else(|| protocol("the token server answered without a token"))?;
    let mut header = HeaderValue::try_from(format!("Bearer {}", secret.expose()))
        .map_err(|_| protocol("the token of the token server fits no header"))?;
    header.set_sensitive(true);
    let life = Duration::from_secs(answer.expires_in.and_then(|life| life.as_u64()).unwrap_or(TOKEN_LIFE_DEFAULT_S).min(TOKEN_LIFE_MAX_S));
    // A token that lives for seconds only is used for three quarters of them.
    Ok(Token { header, renew_at: Instant::now() + life.saturating_sub(TOKEN_MARGIN.min(life / 4)) })
}

/// The `Authorization` of a password.
pub(super) fn basic(username: &str, password: &Secret) -> HeaderValue {
    let text = base64::engine::general_purpose::STANDARD.encode(format!("{username}:{}", password.expose()));
    // Base64 has no character that a header cannot have.
    let mut header = HeaderValue::try_from(format!("Basic {text}")).unwrap_or(HeaderValue::from_static("Basic"));
    header.set_sensitive(true);
    header
}
