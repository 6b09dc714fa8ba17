//! A registry without a repository: who answers, who we are to it, and whether it says which repositories it has. Nothing is written, and nothing is told of pushes.

use reqwest::Method;
use reqwest::header::HeaderMap;

use super::client::Call;
use super::doctor::Doctor;
use super::doctor_findings::{Catalog, Finding};
use super::error::{Operation, RegistryError};
use super::wire::Payload;

impl Doctor {
    /// As [`Doctor::examine`], without a repository.
    pub async fn examine_host(&mut self) -> Result<(), RegistryError> {
        self.stage("Asking who answers");
        self.reach().await?;
        self.login().await?;
        let catalog = self.catalog().await;
        self.note_or_stop("catalog", catalog);
        if self.obstacle.is_none() {
            self.recognise().await?;
        }
        self.judge_login();
        Ok(())
    }

    /// Asks for the repositories. The specification has left that out since 1.0, and what is there is the older one's ("Catalog").
    async fn catalog(&mut self) -> Result<(), RegistryError> {
        let mut action = self.api_action();
        action.operation = Operation::ListRepositories;
        let mut url = self.reader.host.wire.address.base.clone();
        url.set_path("v2/_catalog");
        url.set_query(Some("n=1"));
        // The registry's own words say what a token has to allow here.
        let call = Call { action: &action, method: Method::GET, url, headers: HeaderMap::new(), payload: Payload::Empty, scopes: &[] };
        let catalog = match self.ask_patiently(&self.reader, &call).await {
            Ok(heard) if self.signs.see_list(&heard, "repositories") => Catalog::Listed,
            Ok(heard) => Catalog::NotListed(heard.status),
            Err(error) => Catalog::NotListed(error.status().ok_or(error)?),
        };
        self.findings.push(Finding::Catalog(catalog));
        Ok(())
    }
}
