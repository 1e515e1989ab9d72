//! How many workers there are: what was asked for, within what the machine has.
//!
//! Linkerd's rules, except that a value that makes no sense is an error here and not a warning.

use super::{
    parse::{self, Reason},
    vars::Vars,
};

/// What the variables ask for.
struct Asked {
    min: Option<usize>,
    max: Option<usize>,
    /// Share of what is available, above 0 and at most 1.
    ratio: Option<f64>,
}

/// Worker threads, at least one and at most as many as the process may run at once.
pub(super) fn cores(env: &mut Vars) -> usize {
    let fixed = env.opt("CORES", parse::number);
    let asked = Asked {
        min: env.opt("CORES_MIN", parse::number).or(fixed),
        max: env.opt("CORES_MAX", parse::number),
        ratio: env.opt("CORES_MAX_RATIO", share),
    };
    asked.of(std::thread::available_parallelism().map_or(1, Into::into))
}

impl Asked {
    fn of(&self, available: usize) -> usize {
        let share = |ratio: f64| (available as f64 * ratio).round() as usize;
        let most = self.max.or(self.ratio.map(share)).unwrap_or(1);
        // Nobody means no worker at all by 0.
        most.max(self.min.unwrap_or(1)).min(available).max(1)
    }
}

fn share(s: &str) -> Result<f64, Reason> {
    match s.parse() {
        Ok(ratio) if ratio > 0.0 && ratio <= 1.0 => Ok(ratio),
        _ => Err(format!("{s:?} is not a number above 0 and at most 1")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn of(available: usize, min: Option<usize>, max: Option<usize>, ratio: Option<f64>) -> usize {
        Asked { min, max, ratio }.of(available)
    }

    #[test]
    fn the_highest_bound_that_is_given_counts() {
        for (asked, want) in [
            ((None, None, None), 1),
            ((Some(3), None, None), 3),
            ((None, Some(4), None), 4),
            ((None, None, Some(0.5)), 4),
            ((None, None, Some(0.2)), 2),
            ((None, Some(2), Some(1.0)), 2),
            ((Some(3), Some(2), None), 3),
            ((Some(2), None, Some(0.01)), 2),
            ((None, None, Some(0.01)), 1),
            ((Some(0), Some(0), None), 1),
        ] {
            let (min, max, ratio) = asked;
            assert_eq!(of(8, min, max, ratio), want, "{asked:?}");
        }
    }

    #[test]
    fn there_are_never_more_than_the_machine_runs_at_once() {
        assert_eq!(of(2, Some(16), None, None), 2);
        assert_eq!(of(2, None, Some(16), None), 2);
        assert_eq!(of(1, None, None, Some(1.0)), 1);
    }

    #[test]
    fn the_older_variable_is_the_least() {
        let cores = |vars: &[(&str, &str)]| {
            let vars: HashMap<_, _> = vars
                .iter()
                .map(|(k, v)| (format!("LINKERD2_PROXY_{k}"), (*v).to_owned()))
                .collect();
            let mut env = Vars {
                vars,
                errors: Vec::new(),
            };
            (cores(&mut env), env.errors)
        };
        assert_eq!(cores(&[("CORES", "1")]), (1, vec![]));
        assert_eq!(cores(&[("CORES", "9999"), ("CORES_MIN", "1")]), (1, vec![]));
        for ratio in ["0", "1.1", "-1", "NaN", "half"] {
            let (_, errors) = cores(&[("CORES_MAX_RATIO", ratio)]);
            assert_eq!(errors.len(), 1, "{ratio}: {errors:?}");
        }
        assert_eq!(cores(&[("CORES_MAX", "-1")]).1.len(), 1);
    }
}
