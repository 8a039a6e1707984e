//! How things went over time.
//!
//! **Knows:** a sample a second.
//! **Promises:** never more than [`POINTS`] points: when there would be more, two neighbours become one, and from then on a
//! point stands for twice the time. Means are over all of a point's samples.
//! **Gives up:** the seconds, in long runs.

use serde::Serialize;

/// Points that are kept at most.
pub const POINTS: usize = 4_096;

/// The state of the world in one second, or the mean of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Point {
    /// What the VMs have, in thousandths of a core.
    pub capacity_millicores: u64,
    /// What is booked on them.
    pub booked_millicores: u64,
    /// What was used in the second before.
    pub used_millicores: u64,
    /// Calls that wait for a place.
    pub waiting: u64,
    /// VMs that there are.
    pub vms: u64,
    /// VMs that were lost since the point before; a sum, not a mean.
    pub lost: u64,
}

impl Point {
    fn fields(&mut self) -> [&mut u64; 5] {
        [
            &mut self.capacity_millicores,
            &mut self.booked_millicores,
            &mut self.used_millicores,
            &mut self.waiting,
            &mut self.vms,
        ]
    }

    fn add(&mut self, other: Point) {
        let mut other = other;
        for (mine, others) in self.fields().into_iter().zip(other.fields()) {
            *mine += *others;
        }
        self.lost += other.lost;
    }

    fn divide(mut self, by: u64) -> Self {
        self.fields().into_iter().for_each(|field| *field /= by.max(1));
        self
    }
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Series {
    /// So many seconds are one point.
    pub seconds_per_point: u64,
    /// In order of time, from the origin.
    pub points: Vec<Point>,
    #[serde(skip)]
    sum: Point,
    #[serde(skip)]
    summed: u64,
}

impl Default for Series {
    fn default() -> Self {
        Self { seconds_per_point: 1, points: Vec::new(), sum: Point::default(), summed: 0 }
    }
}

impl Series {
    pub(crate) fn add(&mut self, second: Point) {
        self.sum.add(second);
        self.summed += 1;
        if self.summed < self.seconds_per_point {
            return;
        }
        self.points.push(self.sum.divide(self.summed));
        (self.sum, self.summed) = (Point::default(), 0);
        if self.points.len() >= POINTS {
            self.seconds_per_point *= 2;
            self.points = self
                .points
                .chunks(2)
                .map(|pair| {
                    let mut sum = Point::default();
                    pair.iter().for_each(|&point| sum.add(point));
                    sum.divide(pair.len() as u64)
                })
                .collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_run_has_no_more_points_than_a_short_one() {
        let mut series = Series::default();
        for second in 0..50_000 {
            series.add(Point { vms: second, lost: 1, ..Point::default() });
        }
        assert!(series.points.len() <= POINTS);
        assert_eq!(series.seconds_per_point, 16);
        assert!(series.points.windows(2).all(|pair| pair[0].vms < pair[1].vms));
        assert_eq!(series.points[0].lost, 16);
    }
}
