//! Series of cores: from each moment on, a VM has so many.
//!
//! **Knows:** files of `trace_set,vm,t_s,cores` or `server,t_s,free_cores`.
//! **Promises:** what is played is what stands there; a VM whose series begins later starts later.
//! **Gives up:** memory, which stands in none of them: it goes with the cores. Where a series falls to nothing the VM keeps a
//! sliver, or is gone, as the caller wishes.

use std::collections::BTreeMap;
use std::path::Path;

use vocabulary::{Mebibytes, MilliCores, Moment, Span, VmKind};

use super::fleet::sized;
use crate::plan::{Gone, VmPlan};
use crate::workload::TraceError;
use crate::workload::table::Table;

/// Series of cores.
#[derive(Debug, Clone, PartialEq)]
pub struct Steps {
    /// Of each VM: (from when on, cores), ascending.
    series: Vec<Vec<(Moment, MilliCores)>>,
}

impl Steps {
    /// From code: (seconds, cores) of each VM, ascending.
    pub fn new(series: &[&[(f64, f64)]]) -> Self {
        let step = |&(at, cores): &(f64, f64)| (Moment((at * 1e6) as u64), MilliCores((cores * 1e3) as u32));
        Self { series: series.iter().map(|steps| steps.iter().map(step).collect()).collect() }
    }

    /// Reads one set of a file of sets, or all of a file that has none.
    pub fn read(file: &Path, set: Option<&str>) -> Result<Self, TraceError> {
        let mut table = Table::open(file)?;
        let of_set = set.map(|_| table.column(&["trace_set"])).transpose()?;
        let vm = table.column(&["vm", "server"])?;
        let at = table.column(&["t_s"])?;
        let cores = table.column(&["cores", "free_cores"])?;
        // Numbered in the order of their coming.
        let mut numbers: BTreeMap<String, usize> = BTreeMap::new();
        let mut series: Vec<Vec<(Moment, MilliCores)>> = Vec::new();
        while let Some(row) = table.next_row()? {
            if of_set.is_some_and(|column| Some(row.text(column)) != set) {
                continue;
            }
            let now = Moment((row.number(at)? * 1e6).round() as u64);
            let has = row.number(cores)?;
            if has > 10_000.0 {
                return Err(row.refused(
                    cores,
                    "is more than any machine has",
                    "it should be a number of cores",
                ));
            }
            let name = row.name(vm)?.to_owned();
            let number = *numbers.entry(name).or_insert_with(|| {
                series.push(Vec::new());
                series.len() - 1
            });
            if series[number].last().is_some_and(|&(before, _)| now <= before) {
                let advice = "sort the rows of each VM by time, one row for each moment";
                return Err(row.refused(at, "is not later than the row of this VM before", advice));
            }
            series[number].push((now, MilliCores((has * 1e3).round() as u32)));
        }
        if series.is_empty() {
            let what = format!("there is no set '{}'", set.unwrap_or_default());
            return Err(TraceError::of_file(file, what, "name one that stands in its column trace_set"));
        }
        Ok(Self { series })
    }

    /// How many VMs.
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// Only the first so many.
    #[must_use]
    pub fn first(mut self, count: usize) -> Self {
        self.series.truncate(count);
        self
    }

    /// Only from a moment on, which becomes the beginning.
    #[must_use]
    pub fn from(mut self, begins: Span) -> Self {
        for steps in &mut self.series {
            let now = steps.partition_point(|&(at, _)| at <= Moment::ORIGIN + begins).saturating_sub(1);
            steps.drain(..now);
            for (at, _) in steps {
                *at = *at - begins;
            }
        }
        self
    }

    /// As fates of harvest VMs. Where a series falls below one core: with `notice` the VM is evicted and does not come back;
    /// without, it keeps a tenth of a core.
    pub fn plans(&self, memory_per_core: Mebibytes, notice: Option<Span>) -> Vec<VmPlan> {
        self.series.iter().filter_map(|steps| plan(steps, memory_per_core, notice)).collect()
    }
}

const SLIVER: MilliCores = MilliCores(100);

fn plan(steps: &[(Moment, MilliCores)], memory_per_core: Mebibytes, notice: Option<Span>) -> Option<VmPlan> {
    let is_too_small = |cpu: MilliCores| cpu < MilliCores::cores(1);
    let first = match notice {
        Some(_) => steps.iter().position(|&(_, cpu)| !is_too_small(cpu))?,
        None => 0,
    };
    let &(starts_at, cpu) = steps.get(first)?;
    let mut plan = VmPlan {
        kind: VmKind::Harvest,
        starts_at,
        size: sized(cpu.max(SLIVER), memory_per_core),
        changes: Vec::new(),
        gone: None,
    };
    let mut has = plan.size;
    for &(at, cpu) in &steps[first + 1..] {
        if let Some(notice) = notice.filter(|_| is_too_small(cpu)) {
            plan.gone = Some(Gone { at, notice });
            break;
        }
        let size = sized(cpu.max(SLIVER), memory_per_core);
        if size != has {
            plan.changes.push((at, size));
            has = size;
        }
    }
    Some(plan)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machines::MEMORY_PER_CORE;

    #[test]
    fn steps_become_sizes_with_memory_in_proportion() {
        let steps = Steps::new(&[&[(0.0, 2.0), (10.0, 2.0), (20.0, 5.0)], &[(7.0, 1.0)]]);
        let plans = steps.plans(MEMORY_PER_CORE, None);
        assert_eq!(plans[0].size, sized(MilliCores(2000), Mebibytes(4096)));
        assert_eq!(plans[0].changes, [(Moment(20_000_000), sized(MilliCores(5000), Mebibytes(4096)))]);
        assert_eq!(plans[0].changes[0].1.memory, Mebibytes(20_480));
        assert_eq!(plans[1].starts_at, Moment(7_000_000));
    }

    #[test]
    fn a_vm_that_has_nothing_left_is_evicted_or_keeps_a_sliver() {
        let steps = Steps::new(&[&[(0.0, 0.0), (5.0, 4.0), (10.0, 0.0), (20.0, 5.0)]]);
        let evicted = &steps.plans(MEMORY_PER_CORE, Some(Span::seconds(30)))[0];
        assert_eq!(evicted.starts_at, Moment(5_000_000));
        assert_eq!(evicted.gone, Some(Gone { at: Moment(10_000_000), notice: Span::seconds(30) }));
        let kept = &steps.plans(MEMORY_PER_CORE, None)[0];
        assert_eq!((kept.size.cpu, kept.gone), (SLIVER, None));
        assert_eq!(kept.changes.len(), 3);
    }

    #[test]
    fn a_later_beginning_keeps_what_was_so_then() {
        let steps = Steps::new(&[&[(0.0, 2.0), (10.0, 3.0), (20.0, 5.0)]]).from(Span::seconds(15));
        assert_eq!(steps, Steps::new(&[&[(0.0, 3.0), (5.0, 5.0)]]));
    }
}
