//! The one place where chance enters the live house: ids. Decisions never draw.

use std::cell::Cell;

use vocabulary::{ControllerId, FrontendId, FunctionId, InvocationId, VmId};

use crate::clock::unix_ms;

thread_local! {
    /// A generator per thread, seeded by the operating system: an id on the hot path must not cost a system call.
    static STATE: Cell<[u64; 2]> = Cell::new(seed());
}

fn seed() -> [u64; 2] {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the operating system has random numbers");
    let [low, high] = [0, 8].map(|at| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes")));
    [low | 1, high]
}

/// xoroshiro128+ (Blackman and Vigna, 2018): unpredictable enough for ids, which are no secrets.
fn next() -> u64 {
    STATE.with(|state| {
        let [s0, mut s1] = state.get();
        let result = s0.wrapping_add(s1);
        s1 ^= s0;
        state.set([s0.rotate_left(24) ^ s1 ^ (s1 << 16), s1.rotate_left(37)]);
        result
    })
}

/// 128 random bits.
pub fn bits() -> u128 {
    (u128::from(next()) << 64) | u128::from(next())
}

/// An id for an invocation accepted now.
pub fn invocation_id() -> InvocationId {
    InvocationId::new(unix_ms(), bits())
}

/// An id for a function made now.
pub fn function_id() -> FunctionId {
    FunctionId(next())
}

/// An id for a Controller that starts now.
pub fn controller_id() -> ControllerId {
    ControllerId(next())
}

/// An id for a Frontend that starts now.
pub fn frontend_id() -> FrontendId {
    FrontendId(next())
}

/// An id for a VM that was given none. Large, so that it does not meet those that a Resource Monitor counts up.
pub fn vm_id() -> VmId {
    VmId(next() | 1 << 63)
}
