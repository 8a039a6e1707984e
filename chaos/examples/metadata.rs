//! A metadata service to try things against: `metadata ADDRESS NAME`, then one command per line on standard input.
//!
//! `evict SECONDS`, `call-off`, `begin`, `rebalance`, `forget-tokens`; it ends with its input.

use std::io::BufRead;
use std::time::Duration;

use chaos::metadata::{ADDRESS, MetadataServer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let address = words.next().unwrap_or_else(|| ADDRESS.to_owned());
    let name = words.next().unwrap_or_else(|| "vm-spot".to_owned());
    let server = MetadataServer::start(&address, &name)?;
    println!("{}", server.url());
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let mut words = line.split_whitespace();
        match (words.next(), words.next().map(str::parse::<u64>)) {
            (Some("evict"), Some(Ok(seconds))) => server.evict(Duration::from_secs(seconds)),
            (Some("call-off"), _) => server.call_off(),
            (Some("begin"), _) => server.begin(),
            (Some("rebalance"), _) => server.recommend_rebalance(),
            (Some("forget-tokens"), _) => server.forget_tokens(),
            _ => {
                println!("evict SECONDS | call-off | begin | rebalance | forget-tokens");
                continue;
            }
        }
        println!("done");
    }
    Ok(())
}
