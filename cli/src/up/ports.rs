//! Ports that are free now.
//!
//! **Gives up:** holding them: between the look and the use another program may take one, and then the process
//! that wanted it says so and does not start.

use std::net::TcpListener;

use crate::failure::{Failure, Outcome};

/// Where NATS usually is.
pub const NATS: u16 = 4222;

/// `wanted` (`host:port`) if it is free; else the same host with a free port, where it `may_move`.
pub fn address(wanted: &str, may_move: bool, flag: &str) -> Outcome<String> {
    let (host, port) = wanted.rsplit_once(':').unwrap_or((wanted, "0"));
    let taken = match TcpListener::bind(wanted) {
        Ok(listener) if port == "0" => return Ok(format!("{host}:{}", listener.local_addr()?.port())),
        Ok(_) => return Ok(wanted.to_owned()),
        Err(error) => error,
    };
    if may_move && taken.kind() == std::io::ErrorKind::AddrInUse {
        let listener = TcpListener::bind((host, 0))?;
        return Ok(format!("{host}:{}", listener.local_addr()?.port()));
    }
    Err(Failure::usage(format!(
        "cannot listen at {wanted}: {taken}. Choose another address with {flag}, or stop what listens there"
    )))
}

/// A port for the private nats-server: the one that was asked for, else the usual one, else a free one.
pub fn nats(host: &str, asked: Option<u16>) -> Outcome<u16> {
    let wanted = format!("{host}:{}", asked.unwrap_or(NATS));
    let address = address(&wanted, asked.is_none(), "--nats-port")?;
    let port = address.rsplit(':').next().and_then(|port| port.parse().ok());
    Ok(port.unwrap_or(NATS))
}

/// An address with a free port.
pub fn free(host: &str) -> Outcome<String> {
    address(&format!("{host}:0"), false, "--http")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_an_error_only_for_who_asked_for_it() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = taken.local_addr().expect("an address").to_string();
        let error = super::address(&address, false, "--http").expect_err("taken").to_string();
        assert!(error.contains(&address) && error.contains("--http"), "{error}");
        let other = super::address(&address, true, "--http").expect("another port");
        assert_ne!(other, address);
    }
}
