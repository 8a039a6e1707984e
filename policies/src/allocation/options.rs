//! What can be granted: a grid of CPU and memory, and the part of it that is allowed.
//!
//! **Knows:** steps and bounds. Freyr's are 1 to 8 cores and 64 to 512 MB in steps of 64 MB: 64 options.
//! **Promises:** an option's number says what it is and the other way round; the reservation is always allowed, also where it
//! lies between two steps or beyond the last.
//! **Gives up:** steps of different sizes.

use serde::{Deserialize, Serialize};
use vocabulary::{Mebibytes, MilliCores, Resources};

/// CPU times memory, both in equal steps from one step on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Grid {
    /// Between two options of CPU; at least 1.
    pub cpu_step: MilliCores,
    /// So many of them; at least 1.
    pub cpu_steps: u32,
    /// Between two options of memory; at least 1.
    pub memory_step: Mebibytes,
    /// So many of them; at least 1.
    pub memory_steps: u32,
}

impl Default for Grid {
    fn default() -> Self {
        Self { cpu_step: MilliCores(1_000), cpu_steps: 8, memory_step: Mebibytes(64), memory_steps: 8 }
    }
}

/// The allowed steps of one resource, both ends included; counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Steps {
    /// The least.
    pub from: u32,
    /// The most; not less than `from`.
    pub to: u32,
}

impl Steps {
    /// Exactly this one.
    pub fn only(step: u32) -> Self {
        Self { from: step, to: step }
    }

    /// Whether a step is allowed.
    pub fn allows(self, step: u32) -> bool {
        (self.from..=self.to).contains(&step)
    }
}

/// The allowed part of a grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mask {
    /// Of CPU.
    pub cpu: Steps,
    /// Of memory.
    pub memory: Steps,
}

impl Grid {
    /// How many options there are.
    pub fn len(self) -> usize {
        self.cpu_steps as usize * self.memory_steps as usize
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Option `index`, counted from 0: memory first, as Freyr's `(cpu - 1) * 8 + (memory - 1)`.
    pub fn option(self, index: usize) -> Resources {
        let (cpu, memory) = self.steps_of(index);
        Resources { cpu: self.cpu(cpu), memory: self.memory(memory) }
    }

    /// The steps of option `index`.
    pub fn steps_of(self, index: usize) -> (u32, u32) {
        let columns = self.memory_steps.max(1) as usize;
        ((index / columns) as u32 + 1, (index % columns) as u32 + 1)
    }

    /// All of them, in the order of their numbers.
    pub fn options(self) -> impl Iterator<Item = Resources> {
        (0..self.len()).map(move |index| self.option(index))
    }

    /// Which options a mask allows, in the order of their numbers.
    pub fn allowed(self, mask: Mask) -> impl Iterator<Item = bool> {
        (0..self.len()).map(move |index| {
            let (cpu, memory) = self.steps_of(index);
            mask.cpu.allows(cpu) && mask.memory.allows(memory)
        })
    }

    /// So many steps of CPU.
    pub fn cpu(self, steps: u32) -> MilliCores {
        MilliCores(self.cpu_step.0.saturating_mul(steps))
    }

    /// So many steps of memory.
    pub fn memory(self, steps: u32) -> Mebibytes {
        Mebibytes(self.memory_step.0.saturating_mul(steps))
    }

    /// The fewest steps that hold this much CPU, at least 1; more than there are where the reservation is larger than the grid.
    pub fn cpu_steps_for(self, cpu: MilliCores) -> u32 {
        cpu.0.div_ceil(self.cpu_step.0.max(1)).max(1)
    }

    /// The fewest steps that hold this much memory, at least 1.
    pub fn memory_steps_for(self, memory: Mebibytes) -> u32 {
        memory.0.div_ceil(self.memory_step.0.max(1)).max(1)
    }

    /// The most of each: the last option, or the reservation where that is more.
    pub fn most(self, reservation: Resources) -> Resources {
        Resources { cpu: self.cpu(self.cpu_steps), memory: self.memory(self.memory_steps) }.max(reservation)
    }

    /// What an option gives to someone with this reservation: the step that holds the reservation is the reservation itself, or
    /// rounding it up would already count as help.
    pub fn snap(self, option: Resources, reservation: Resources) -> Resources {
        let own_cpu = self.cpu(self.cpu_steps_for(reservation.cpu));
        let own_memory = self.memory(self.memory_steps_for(reservation.memory));
        Resources {
            cpu: if option.cpu == own_cpu { reservation.cpu } else { option.cpu },
            memory: if option.memory == own_memory { reservation.memory } else { option.memory },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grid_of_the_paper_has_sixty_four_options_from_one_core_and_64_mib_on() {
        let grid = Grid::default();
        assert_eq!(grid.len(), 64);
        assert_eq!(grid.option(0), Resources::new(1_000, 64));
        assert_eq!(grid.option(7), Resources::new(1_000, 512));
        assert_eq!(grid.option(8), Resources::new(2_000, 64));
        assert_eq!(grid.options().last(), Some(Resources::new(8_000, 512)));
    }

    #[test]
    fn a_mask_allows_a_rectangle() {
        let mask = Mask { cpu: Steps { from: 2, to: 3 }, memory: Steps::only(4) };
        let allowed: Vec<Resources> = Grid::default()
            .options()
            .zip(Grid::default().allowed(mask))
            .filter_map(|(option, allowed)| allowed.then_some(option))
            .collect();
        assert_eq!(allowed, [Resources::new(2_000, 256), Resources::new(3_000, 256)]);
    }

    #[test]
    fn the_step_of_a_reservation_is_the_reservation() {
        let grid = Grid::default();
        let reservation = Resources::new(1_500, 100);
        assert_eq!(grid.snap(Resources::new(2_000, 128), reservation), reservation);
        assert_eq!(grid.snap(Resources::new(1_000, 192), reservation), Resources::new(1_000, 192));
    }
}
