//! Why no answer came: the HTTP library's error, read.
//!
//! Some of it is in the types of TLS' errors, some only in their texts; what is not known is a connection that broke, which is worth another try.

use std::error::Error;
use std::fmt;

/// The alerts with which a server refuses a client's certificate, or that there is none (RFC 8446, 6.2).
const CERTIFICATE_ALERTS: [&str; 8] = [
    "CertificateRequired",
    "BadCertificate",
    "UnsupportedCertificate",
    "CertificateRevoked",
    "CertificateExpired",
    "CertificateUnknown",
    "UnknownCA",
    "AccessDenied",
];

/// Why no answer came, as far as the library's error tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// We spoke TLS, it plain HTTP.
    SpeaksPlainHttp,
    /// We spoke plain HTTP; what came back was none.
    SpeaksSomethingElse,
    /// Its certificate is of an authority that we do not trust.
    UnknownAuthority,
    /// It asks for a certificate from us, and was shown none, or one that it does not know.
    ClientCertificate,
    /// Another fault of its certificate, or of TLS.
    Tls,
    /// Its name does not resolve.
    UnknownHost,
    /// No connection.
    NoConnection,
    /// The connection broke.
    Torn,
    /// A request that cannot be made.
    Impossible,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Trouble::SpeaksPlainHttp => "the registry speaks plain HTTP, not TLS",
            Trouble::SpeaksSomethingElse => "the registry does not speak plain HTTP",
            Trouble::UnknownAuthority => "the registry's certificate is of an unknown authority",
            Trouble::ClientCertificate => "the registry wants a client certificate that it knows, and was shown none or another",
            Trouble::Tls => "no TLS connection",
            Trouble::UnknownHost => "the host name does not resolve",
            Trouble::NoConnection => "no connection",
            Trouble::Torn => "the connection broke",
            Trouble::Impossible => "the request cannot be made",
        })
    }
}

impl Trouble {
    /// Reads the library's error.
    pub fn of(error: &reqwest::Error) -> Trouble {
        if error.is_builder() || error.is_redirect() {
            return Trouble::Impossible;
        }
        let mut parse_error = false;
        let mut next: Option<&(dyn Error + 'static)> = Some(error);
        while let Some(cause) = next {
            let text = cause.to_string();
            // What a server says of our certificate comes after our side of the handshake (TLS 1.3), when only the text of TLS' errors is left.
            if CERTIFICATE_ALERTS.iter().any(|alert| text.strip_prefix("received fatal alert: ") == Some(alert)) {
                return Trouble::ClientCertificate;
            }
            if let Some(trouble) = Trouble::of_cause(cause) {
                return trouble;
            }
            // What a TLS server answers to plain HTTP is no HTTP, by the HTTP library's text.
            parse_error |= text.contains("invalid HTTP version parsed");
            next = inner(cause);
        }
        if parse_error {
            Trouble::SpeaksSomethingElse
        } else if error.is_dns() {
            Trouble::UnknownHost
        } else if error.is_connect() {
            Trouble::NoConnection
        } else {
            Trouble::Torn
        }
    }

    fn of_cause(cause: &(dyn Error + 'static)) -> Option<Trouble> {
        Some(match cause.downcast_ref::<rustls::Error>()? {
            rustls::Error::InvalidMessage(_) => Trouble::SpeaksPlainHttp,
            rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer) => Trouble::UnknownAuthority,
            // A certificate that is its own authority (`tls.rs`); webpki has a word for it, and rustls has not.
            rustls::Error::InvalidCertificate(rustls::CertificateError::Other(_)) => Trouble::UnknownAuthority,
            _ => Trouble::Tls,
        })
    }

    /// What the user can do about it.
    pub fn remedy(self, registry: &str) -> Option<String> {
        match self {
            Trouble::SpeaksPlainHttp => Some(format!("set `plain_http: true` for registry `{registry}` in the configuration file")),
            Trouble::SpeaksSomethingElse => Some(format!("set `plain_http: false` for registry `{registry}` in the configuration file")),
            Trouble::UnknownAuthority => {
                Some(format!("set `ca_file` for registry `{registry}` in the configuration file to the authority's certificate"))
            }
            Trouble::ClientCertificate => Some(format!(
                "set `client_certificate_file` and `client_key_file` for registry `{registry}` in the configuration file to a certificate that it knows"
            )),
            Trouble::UnknownHost => Some(format!("check the name `{registry}`")),
            Trouble::NoConnection => Some(format!("check that a registry listens at `{registry}`")),
            _ => None,
        }
    }

    /// Whether it often passes.
    pub fn is_transient(self) -> bool {
        matches!(self, Trouble::UnknownHost | Trouble::NoConnection | Trouble::Torn)
    }
}

/// The next cause below `cause`; an `io::Error` hides the error that it wraps from `source()`.
fn inner<'a>(cause: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => cause.source(),
    }
}
