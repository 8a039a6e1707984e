//! `windfall wires`: what `windfall up --wires` puts between the house and its NATS, for `windfall chaos` to cut.

use chaos::wires::Wires;
use clap::Args;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::configuration::{Configuration, Flags};
use crate::failure::{Exit, Failure, Outcome};

/// The hidden command.
pub const COMMAND: &str = "wires";

/// Its flags.
#[derive(Debug, Args)]
pub struct Lay {
    /// Where the house connects
    #[arg(long, value_name = "HOST:PORT")]
    listen: String,
    /// Where nats-server is
    #[arg(long, value_name = "HOST:PORT")]
    server: String,
}

/// Carries it out until SIGTERM.
pub async fn run(lay: Lay, mut flags: Flags) -> Outcome {
    let mut terminate = signal(SignalKind::terminate())?;
    flags.also("nats.url", Some(format!("nats://{}", lay.server)), "--server");
    let configuration = Configuration::load(&flags)?;
    let listener = TcpListener::bind(&lay.listen)
        .await
        .map_err(|error| Failure::usage(format!("cannot listen at {}: {error}", lay.listen)))?;
    let bus = actors::bus::Bus::connect(&configuration.settings.nats, COMMAND)
        .await
        .map_err(|error| Failure::new(Exit::Unreachable, error.to_string()))?;
    let wires = Wires::new();
    let obey = std::sync::Arc::clone(&wires).obey(bus.client().clone());
    tokio::select! {
        () = wires.serve(listener, lay.server) => Ok(()),
        ended = obey => ended.map_err(|error| Failure::new(Exit::Failed, error.to_string())),
        _ = terminate.recv() => Ok(()),
    }
}
