//! How often each collector runs, so that collecting takes no more of a core than it may; and waits that do not come all at once.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::Rng;
use fleet::between;

/// However costly, a collector runs about once a day.
const LONGEST: Duration = Duration::from_hours(24);
/// Clock ticks of `/proc/self/stat`, per second: fixed in the kernel's interface to programs.
const TICKS: u32 = 100;

/// How often each collector has to run, given what one run of it costs in seconds of a core: what is cheap runs at every interval, and what
/// is left of the budget is divided evenly among what is not.
pub(crate) fn periods(costs: &BTreeMap<String, f64>, interval: Duration, percent: f64) -> BTreeMap<String, Duration> {
    let mut sorted: Vec<(&String, f64)> = costs.iter().map(|(name, cost)| (name, cost.max(0.0))).collect();
    sorted.sort_by(|a, b| a.1.total_cmp(&b.1));
    let mut budget = interval.as_secs_f64() * percent / 100.0;
    let mut left = u32::try_from(sorted.len()).unwrap_or(u32::MAX);
    let mut periods = BTreeMap::new();
    for (name, cost) in sorted {
        let fair = budget / f64::from(left.max(1));
        left = left.saturating_sub(1);
        let period = if cost <= fair {
            budget -= cost;
            interval
        } else {
            budget -= fair;
            let stretched = interval.as_secs_f64() * cost / fair.max(f64::MIN_POSITIVE);
            Duration::try_from_secs_f64(stretched).unwrap_or(LONGEST).clamp(interval, LONGEST.max(interval))
        };
        periods.insert(name.clone(), period);
    }
    periods
}

/// A tenth less to a tenth more.
pub(crate) fn jittered(rng: &dyn Rng, around: Duration) -> Duration {
    between(rng, around.mul_f64(0.9), around.mul_f64(1.1))
}

/// Seconds of a core that this process and its children have used so far.
pub(crate) fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name may hold anything, and ends at the last parenthesis; then come state and, as 12th to 15th, utime, stime, cutime, cstime.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 =
        fields.split_ascii_whitespace().skip(11).take(4).filter_map(|field| field.parse::<u64>().ok()).sum();
    f64::from(u32::try_from(ticks).unwrap_or(u32::MAX)) / f64::from(TICKS)
}

/// Bytes of memory that are resident.
pub(crate) fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: Option<u64> = line.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok());
    kib.unwrap_or_default() * 1_024
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIVE: Duration = Duration::from_mins(5);

    fn paced(costs: &[(&str, f64)], percent: f64) -> BTreeMap<String, Duration> {
        let costs = costs.iter().map(|(name, cost)| ((*name).to_owned(), *cost)).collect();
        periods(&costs, FIVE, percent)
    }

    #[test]
    fn what_fits_the_budget_runs_at_every_interval() {
        // 0.4 % of five minutes are 1.2 s.
        let periods = paced(&[("a", 0.3), ("b", 0.4), ("c", 0.5)], 0.4);
        assert!(periods.values().all(|period| *period == FIVE), "{periods:?}");
    }

    #[test]
    fn what_is_costly_runs_less_often_and_what_is_cheap_does_not() {
        let costs = [("cheap", 0.1), ("dear", 6.0), ("dearer", 60.0)];
        let periods = paced(&costs, 0.4);
        assert_eq!(periods["cheap"], FIVE);
        assert!(periods["dear"] > FIVE && periods["dearer"] > periods["dear"], "{periods:?}");
        let used: f64 = costs.iter().map(|(name, cost)| cost / periods[*name].as_secs_f64()).sum();
        assert!(used <= 0.004 * 1.000_001, "{used}");
        assert!(paced(&[("never", 1e12)], 0.4)["never"] == LONGEST);
    }

    #[test]
    fn what_is_jittered_stays_within_a_tenth_and_spreads_over_it() {
        let rng = testkit::TestRng::seeded(9);
        let waits: Vec<Duration> = (0..1_000).map(|_| jittered(&rng, FIVE)).collect();
        let (least, most) = (Duration::from_secs(270), Duration::from_secs(330));
        assert!(
            waits.iter().all(|wait| (least..=most).contains(wait)),
            "{:?} {:?}",
            waits.iter().min(),
            waits.iter().max()
        );
        // Each of ten equal parts gets about a tenth of them: agents that began together do not stay together.
        for part in 0..10 {
            let (from, to) = (least + Duration::from_secs(6 * part), least + Duration::from_secs(6 * (part + 1)));
            let inside = waits.iter().filter(|wait| (from..to).contains(*wait)).count();
            assert!((60..=140).contains(&inside), "{inside} of 1,000 from {from:?} to {to:?}");
        }
    }

    #[test]
    fn this_process_has_used_a_core_and_memory() {
        let before = cpu_seconds();
        let mut digest = crypto::sha256(b"");
        while cpu_seconds() < before + 0.02 {
            digest = crypto::sha256(digest.as_bytes());
        }
        assert!(resident_bytes() > 1_024 * 1_024);
    }
}
