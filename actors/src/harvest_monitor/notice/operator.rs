//! An operator: `windfall vm evict`, a message to this VM.
//!
//! **Promises:** whoever asks is answered with what holds from now on. Who may ask is decided by NATS's own permissions.

use std::sync::Arc;

use futures::StreamExt;
use futures::future::BoxFuture;
use messages::{Evict, Notice, subjects};
use tokio::sync::Mutex;
use vocabulary::VmId;

use super::{NoticeSource, Said};
use crate::bus::Bus;
use crate::metrics::InvokerMetrics;

/// Listens on the VM's own subject.
pub struct Operator {
    vm: VmId,
    bus: Bus,
    metrics: Arc<InvokerMetrics>,
    orders: Mutex<async_nats::Subscriber>,
}

impl Operator {
    /// As in [`messages::Notice::source`].
    pub const NAME: &'static str = "operator";

    /// From now on orders are heard.
    ///
    /// # Errors
    /// The connection is closed.
    pub async fn listen(
        vm: VmId,
        bus: Bus,
        metrics: Arc<InvokerMetrics>,
    ) -> Result<Self, async_nats::SubscribeError> {
        let orders = bus.client().subscribe(subjects::vm_evict(vm)).await?;
        Ok(Self { vm, bus, metrics, orders: Mutex::new(orders) })
    }
}

impl NoticeSource for Operator {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn next(&self) -> BoxFuture<'_, Said> {
        Box::pin(async {
            let mut orders = self.orders.lock().await;
            while let Some(message) = orders.next().await {
                let order: Evict = match messages::decode(&message.payload) {
                    Ok(order) => order,
                    Err(error) => {
                        self.metrics.common.decode_failed();
                        tracing::warn!(%error, "dropped an order to evict");
                        continue;
                    }
                };
                if let Some(reply) = message.reply {
                    let source = Self::NAME.to_owned();
                    let notice = Notice { vm: self.vm, time_left: order.time_left, source };
                    self.bus.send(reply.into_string(), &notice).await;
                }
                return order.time_left.map_or(Said::CalledOff, Said::WillEnd);
            }
            // The client is closed; the VM ends with it.
            std::future::pending().await
        })
    }
}
