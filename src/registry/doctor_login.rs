//! Who we are to a registry, and whether it believes it.
//!
//! Credentials that were found prove nothing. They are sent where a login is asked for, as `docker login` does it: to `/v2/` with the password, or to the token server for a token
//! of no repository. And since some take whatever comes (a token server may give a guest's token to a wrong password), a user that does not exist is tried after ours: only where
//! that one is refused was ours really looked at. The real user's name is never tried with another password: that might lock it.
//!
//! A registry that lets everybody read asks nothing at `/v2/`, and may ask when it is written to: then that is what counts ([`Doctor::login_after_push`]).

use reqwest::header::{AUTHORIZATION, HeaderMap};
use reqwest::{Method, StatusCode};

use super::address::origin_text;
use super::answer::Answer;
use super::challenge::Challenge;
use super::credentials::Credential;
use super::doctor::Doctor;
use super::doctor_findings::{Finding, Identity, Login, Proof, Scheme};
use super::doctor_obstacle::Obstacle;
use super::error::{Action, Operation, RegistryError};
use super::settings::Secret;
use super::tokens;
use super::wire::Payload;
use crate::fault::one_line;

/// A user that no registry has.
const NOBODY: &str = "lamina-doctor";

impl Doctor {
    /// Looks up who we are, and finds out whether that is believed. Credentials that cannot be read stop every push, so they stop this.
    pub(super) async fn login(&mut self) -> Result<(), RegistryError> {
        let action = self.reader.action(Operation::AskApi, "");
        let found = self.reader.host.tokens.identity(&self.reader.repository).await;
        let (credential, origin) = found.map_err(|source| RegistryError::Credentials { action, source: Box::new(source) })?;
        let identity = match &credential {
            Credential::Anonymous => Identity::Anonymous,
            Credential::Basic { username, .. } => Identity::User(username.clone()),
            Credential::Identity(_) => Identity::Token,
        };
        let scheme = self.scheme()?;
        let proof = self.prove(&credential).await?;
        self.credential = credential;
        self.findings.push(Finding::Login(Login { scheme, identity, origin, proof }));
        Ok(())
    }

    /// The same once more where `/v2/` asked for nothing: a push may have been asked.
    pub(super) async fn login_after_push(&mut self) {
        if self.challenge.is_some() || self.credential == Credential::Anonymous {
            return;
        }
        self.challenge = self.writer.host.tokens.challenge().await;
        let refused = match &self.obstacle {
            None => None,
            Some(Obstacle::Refused { source, .. }) if source.status() == Some(StatusCode::UNAUTHORIZED) => source.answer().cloned(),
            Some(_) => return,
        };
        let proof = match (&self.challenge, refused) {
            (None, None) => Ok(Proof::NotNeeded),
            (_, Some(answer)) => Ok(Proof::Refused(answer)),
            // A password that was asked for, and with which it was done. `/v2/`, which is open, would take any.
            (Some(Challenge::Basic), None) => Ok(Proof::Taken),
            (Some(_), None) => self.prove(&self.credential).await,
        };
        let (Ok(scheme), Ok(proof)) = (self.scheme(), proof) else { return };
        for finding in &mut self.findings {
            if let Finding::Login(login) = finding {
                (login.scheme, login.proof) = (scheme.clone(), proof.clone());
            }
        }
    }

    /// A host without a repository: what the login alone makes impossible.
    pub(super) fn judge_login(&mut self) {
        let registry = self.reader.host.registry.clone();
        let Some(login) = self.findings.iter().find_map(|finding| if let Finding::Login(login) = finding { Some(login) } else { None })
        else {
            return;
        };
        let action = self.api_action();
        let wanted = |status| Answer::new(status, &HeaderMap::new(), b"");
        let answer = match (&login.scheme, &login.identity, &login.proof) {
            (_, _, Proof::Refused(answer)) => answer.clone(),
            (Scheme::Basic, Identity::Anonymous | Identity::Token, _) | (Scheme::Unknown, _, _) => wanted(StatusCode::UNAUTHORIZED),
            _ => return,
        };
        let source = RegistryError::Refused { action, answer: Box::new(answer) };
        self.obstacle.get_or_insert(Obstacle::Login { registry, source });
    }

    /// What it asks for.
    fn scheme(&self) -> Result<Scheme, RegistryError> {
        Ok(match &self.challenge {
            None if self.wants_login => Scheme::Unknown,
            None => Scheme::Nothing,
            Some(Challenge::Basic) => Scheme::Basic,
            Some(Challenge::Bearer { realm, .. }) => {
                let address = &self.reader.host.wire.address;
                let realm =
                    address.follow(&address.base, realm).map_err(|source| RegistryError::Astray { action: self.api_action(), source })?;
                Scheme::Bearer { realm: origin_text(&realm) }
            }
        })
    }

    /// Whether `credential` is believed, as far as can be told without writing.
    async fn prove(&self, credential: &Credential) -> Result<Proof, RegistryError> {
        let Some(challenge) = self.challenge.as_ref().filter(|_| *credential != Credential::Anonymous) else { return Ok(Proof::NotTried) };
        let by_token = matches!(credential, Credential::Identity(_));
        if by_token && *challenge == Challenge::Basic {
            return Ok(Proof::NotTried);
        }
        match self.try_login(challenge, credential).await? {
            Tried::Refused(answer) => return Ok(Proof::Refused(answer)),
            Tried::Unclear(problem) => return Ok(Proof::Unclear(problem)),
            // An identity token is traded for another one, or it is not: nobody gives a guest something for it.
            Tried::Taken if by_token => return Ok(Proof::Taken),
            Tried::Taken => {}
        }
        let nobody = Credential::Basic { username: NOBODY.to_owned(), password: Secret::new("no password of anybody") };
        Ok(match self.try_login(challenge, &nobody).await? {
            Tried::Refused(_) => Proof::Taken,
            Tried::Unclear(problem) => Proof::Unclear(problem),
            Tried::Taken => Proof::AnyTaken,
        })
    }

    /// Logs in. Fails where nobody is there.
    async fn try_login(&self, challenge: &Challenge, credential: &Credential) -> Result<Tried, RegistryError> {
        let (host, action) = (&self.reader.host, self.api_action());
        match (challenge, credential) {
            (Challenge::Bearer { realm, service, .. }, _) => {
                match tokens::fetch(&host.wire, &action, realm, service.as_deref(), &[], credential).await {
                    Ok(_) => Ok(Tried::Taken),
                    Err(RegistryError::NoToken { answer, .. }) => Ok(Tried::of(*answer)),
                    Err(error @ RegistryError::Stalled { .. }) => Err(error),
                    Err(error) => Ok(Tried::Unclear(one_line(&error))),
                }
            }
            (Challenge::Basic, Credential::Basic { username, password }) => {
                let mut headers = HeaderMap::new();
                headers.insert(AUTHORIZATION, tokens::basic(username, password));
                let response = host.wire.exchange(&action, &Method::GET, &self.api_url()?, headers, &Payload::Empty).await?;
                Ok(Tried::of(host.wire.read_answer(response).await))
            }
            (Challenge::Basic, _) => Ok(Tried::Unclear("there is no password".to_owned())),
        }
    }

    pub(super) fn api_action(&self) -> Action {
        let registry = &self.reader.host.registry;
        Action { operation: Operation::AskApi, registry: registry.clone(), object: registry.clone() }
    }
}

/// What came of a login.
enum Tried {
    Taken,
    Refused(Answer),
    Unclear(String),
}

impl Tried {
    fn of(answer: Answer) -> Tried {
        match answer.status {
            status if status.is_success() => Tried::Taken,
            // It is the login that is refused, and not the request.
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Tried::Refused(answer),
            _ => Tried::Unclear(answer.to_string()),
        }
    }
}
