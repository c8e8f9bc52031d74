//! placeholder
use crate::node::Node;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
/// Runs.
pub async fn run(_node: Arc<Node>, stop: CancellationToken) {
    stop.cancelled().await
}
