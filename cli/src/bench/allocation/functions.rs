//! Ten functions of the kinds that Freyr's authors measured, written for this and small enough for VMs of half a core.
//!
//! **Knows:** the code of each, what its user reserves (in eighths of a VM, as the paper's users reserve 4 or 8 of a node's 8 cores),
//! and three sizes of input.
//! **Promises:** each computes something, out of its input. Those whose kind cannot use more than a core or two in the paper go at
//! a pace here: what they work on comes at its own time, so that more CPU does not help them. The others take all that they get.
//! **Gives up:** the libraries of the originals (FFmpeg, ResNet, NumPy): nothing is downloaded, so all but one is plain Python.

use base64::Engine;
use serde_json::{Value, json};
use vocabulary::Resources;

use crate::bench::cluster::Cluster;
use crate::bench::doors::compiled;
use crate::client::Client;
use crate::failure::{Exit, Failure, Outcome};

/// Sizes of input that each function is called with, and how many calls of a thousand have which.
pub(super) const SIZES: usize = 3;
const SHARES: [u32; SIZES] = [500, 350, 150];

/// The largest reservation of the ten takes a whole VM of so many MiB at least.
const MEMORY: u32 = 256;

enum Code {
    Python(&'static str),
    Native(&'static str),
}

/// One of the ten.
pub(super) struct Kind {
    /// As in the table of arrivals.
    pub name: &'static str,
    pub what: &'static str,
    code: Code,
    eighths: u32,
    memory: u32,
    /// At once, where it can use all that it gets.
    pub threads: u32,
    /// The field of the argument that is its size.
    field: &'static str,
    pub sizes: [u32; SIZES],
    argument: fn(u32) -> Value,
}

/// A run that is made of the number itself.
fn number(size: u32) -> Value {
    size.into()
}

fn list(size: u32) -> Value {
    (0..size).map(|n| n.wrapping_mul(2_654_435_761) % 100_003).collect()
}

fn sequence(size: u32) -> Value {
    let base = |n: u32| ['A', 'C', 'G', 'T'][(n.wrapping_mul(2_654_435_761) >> 30) as usize];
    (0..size).map(base).collect::<String>().into()
}

macro_rules! code {
    ($file:literal) => {
        include_str!(concat!("functions/", $file))
    };
}

const HALF: u32 = 4;
const WHOLE: u32 = 8;

/// In the order of Freyr's table.
pub(super) const KINDS: [Kind; 10] = [
    Kind {
        name: "dh",
        what: "dynamic HTML",
        code: Code::Python(code!("dh.py")),
        eighths: HALF,
        memory: 128,
        threads: 1,
        field: "rows",
        sizes: [3_000, 6_000, 12_000],
        argument: number,
    },
    Kind {
        name: "eg",
        what: "e-mail, at a pace",
        code: Code::Python(code!("eg.py")),
        eighths: HALF,
        memory: 128,
        threads: 1,
        field: "mails",
        sizes: [16, 32, 64],
        argument: number,
    },
    Kind {
        name: "ip",
        what: "images, at a pace",
        code: Code::Python(code!("ip.py")),
        eighths: HALF,
        memory: 128,
        threads: 1,
        field: "images",
        sizes: [6, 12, 24],
        argument: number,
    },
    Kind {
        name: "vp",
        what: "video, at a pace",
        code: Code::Python(code!("vp.py")),
        eighths: WHOLE,
        memory: MEMORY,
        threads: 1,
        field: "frames",
        sizes: [8, 16, 32],
        argument: number,
    },
    Kind {
        name: "ir",
        what: "recognition, at a pace",
        code: Code::Python(code!("ir.py")),
        eighths: WHOLE,
        memory: MEMORY,
        threads: 1,
        field: "images",
        sizes: [8, 16, 32],
        argument: number,
    },
    Kind {
        name: "knn",
        what: "nearest neighbours",
        code: Code::Python(code!("knn.py")),
        eighths: HALF,
        memory: 128,
        threads: 1,
        field: "points",
        sizes: [500, 1_000, 2_000],
        argument: number,
    },
    Kind {
        name: "alu",
        what: "arithmetic and hashing on four threads, native",
        code: Code::Native(code!("alu.c")),
        eighths: HALF,
        memory: 128,
        threads: 4,
        field: "rounds",
        sizes: [4, 8, 16],
        argument: number,
    },
    Kind {
        name: "ms",
        what: "merge sort",
        code: Code::Python(code!("ms.py")),
        eighths: HALF,
        memory: 128,
        threads: 1,
        field: "numbers",
        sizes: [3_000, 6_000, 12_000],
        argument: list,
    },
    Kind {
        name: "gd",
        what: "gradient descent, at a pace",
        code: Code::Python(code!("gd.py")),
        eighths: HALF,
        memory: 128,
        threads: 1,
        field: "steps",
        sizes: [8, 16, 32],
        argument: number,
    },
    Kind {
        name: "dv",
        what: "DNA as a drawing, and its hash",
        code: Code::Python(code!("dv.py")),
        eighths: WHOLE,
        memory: MEMORY,
        threads: 1,
        field: "sequence",
        sizes: [8_000, 16_000, 32_000],
        argument: sequence,
    },
];

/// Which of the sizes a draw below 1,000 means.
pub(super) fn size_of(input: u32) -> usize {
    let mut below = 0;
    let found = SHARES.iter().position(|share| {
        below += share;
        input < below
    });
    found.unwrap_or(SIZES - 1)
}

impl Kind {
    /// What its user reserves on VMs with so much CPU.
    pub fn reservation(&self, vm_cpu: u32) -> Resources {
        Resources::new(vm_cpu * self.eighths / 8, self.memory)
    }

    /// The argument of a call with an input of this size.
    pub fn argument(&self, size: usize) -> String {
        json!({ self.field: (self.argument)(self.sizes[size]) }).to_string()
    }

    /// Its name where it has a whole VM to itself.
    pub fn name_alone(&self) -> String {
        format!("{}-alone", self.name)
    }
}

/// Deploys all ten, and each once more with a whole VM as its reservation.
pub(super) async fn deploy(cluster: &Cluster, client: &Client, vm_cpu: u32) -> Outcome {
    for kind in &KINDS {
        let exec = match kind.code {
            Code::Python(code) => json!({ "kind": "python:default", "code": code }),
            Code::Native(text) => {
                let program = compiled(&cluster.data, text).ok_or_else(|| {
                    Failure::new(
                        Exit::Failed,
                        "one of the functions is native, and there is no C compiler (cc)",
                    )
                })?;
                let code = base64::engine::general_purpose::STANDARD.encode(program);
                json!({ "kind": "native:default", "code": code })
            }
        };
        let reserved = kind.reservation(vm_cpu);
        for (name, cpu) in [(kind.name.to_owned(), reserved.cpu.0), (kind.name_alone(), vm_cpu)] {
            let body = json!({
                "exec": exec,
                "limits": { "cpu": cpu, "memory": reserved.memory.0, "timeout": 300_000 },
                "annotations": [{ "key": "input-size", "value": kind.field }],
            });
            client.put(&format!("/namespaces/_/actions/{name}?overwrite=true"), &body).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_freyrs_ten_in_his_order() {
        let freyr = simulator::workload::Freyr::synthetic(1);
        let names: Vec<&str> = freyr.slots().map(|(name, _)| name).collect();
        assert_eq!(names, KINDS.each_ref().map(|kind| kind.name));
    }

    #[test]
    fn sizes_are_powers_of_two_apart_so_that_they_are_told_apart() {
        for kind in &KINDS {
            for (smaller, larger) in kind.sizes.iter().zip(&kind.sizes[1..]) {
                assert_ne!(smaller.ilog2(), larger.ilog2(), "{}", kind.name);
            }
            assert!(kind.argument(SIZES - 1).len() < 1 << 20, "{}", kind.name);
        }
    }

    #[test]
    fn half_of_the_calls_have_the_smallest_input() {
        let mut counts = [0; SIZES];
        (0..1_000).for_each(|input| counts[size_of(input)] += 1);
        assert_eq!(counts, SHARES);
    }
}
