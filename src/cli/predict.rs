//! Asking a running model: one unary gRPC call to `PredictionService/Predict`.
//!
//! The transport and the framing are tonic's; the messages are those of `proto/`. The seed era's service is spoken, which our runtimes serve. No model is
//! started here: that is `run.rs`.

use std::time::Duration;

use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use crate::fault::{Failure, Fault};
use crate::proto::grpc::health::v1::{HealthCheckRequest, HealthCheckResponse};
use crate::proto::hydrosphere::tensorflow::serving::{PredictRequest, PredictResponse};

/// The largest message, as the runtimes allow it.
const MESSAGE_BYTES_MAX: usize = 256 << 20;
/// How long one connection attempt may take.
const CONNECT: Duration = Duration::from_secs(2);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum PredictError {
    /// Nobody listens.
    #[error("the model at {address} does not answer")]
    Connect {
        /// Where.
        address: String,
        /// Why.
        #[source]
        source: tonic::transport::Error,
    },
    /// The model said no.
    #[error("the model at {address} refused: {code:?}: {message}")]
    Refused {
        /// Where.
        address: String,
        /// gRPC's code.
        code: tonic::Code,
        /// What it said.
        message: String,
    },
}

impl Failure for PredictError {
    fn fault(&self) -> Fault {
        match self {
            PredictError::Connect { .. } => Fault::RemoteTransient,
            PredictError::Refused { .. } => Fault::Remote,
        }
    }
}

/// Connects to `127.0.0.1:port`.
pub async fn connect(port: u16) -> Result<Channel, PredictError> {
    let address = format!("127.0.0.1:{port}");
    let failed = |source| PredictError::Connect { address: address.clone(), source };
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(failed)?;
    endpoint.connect_timeout(CONNECT).connect().await.map_err(failed)
}

/// Whether something there speaks gRPC: any answer of its health service will do, a refusal of one that has none included.
pub async fn is_ready(port: u16) -> bool {
    let Ok(channel) = connect(port).await else { return false };
    let mut client = Grpc::new(channel);
    if client.ready().await.is_err() {
        return false;
    }
    let path = PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let codec: ProstCodec<HealthCheckRequest, HealthCheckResponse> = ProstCodec::default();
    let asked = client.unary(tonic::Request::new(HealthCheckRequest::default()), path, codec);
    match tokio::time::timeout(CONNECT, asked).await {
        Ok(Ok(_)) => true,
        Ok(Err(status)) => status.code() == tonic::Code::Unimplemented,
        Err(_) => false,
    }
}

/// Sends one request.
pub async fn predict(channel: Channel, port: u16, request: PredictRequest) -> Result<PredictResponse, PredictError> {
    let address = format!("127.0.0.1:{port}");
    let refused = |status: &tonic::Status| PredictError::Refused {
        address: address.clone(),
        code: status.code(),
        message: status.message().to_owned(),
    };
    let mut client = Grpc::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX).max_encoding_message_size(MESSAGE_BYTES_MAX);
    client.ready().await.map_err(|source| PredictError::Connect { address: address.clone(), source })?;
    let path = PathAndQuery::from_static("/tensorflow.serving.PredictionService/Predict");
    let codec: ProstCodec<PredictRequest, PredictResponse> = ProstCodec::default();
    let answer = client.unary(tonic::Request::new(request), path, codec).await.map_err(|status| refused(&status))?;
    Ok(answer.into_inner())
}
