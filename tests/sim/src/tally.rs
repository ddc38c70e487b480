//! What many runs have said together.

/// Of the histories so many in a hundred may be undecided: more, and what they should find would pass.
const UNDECIDED_PERCENT_MAX: u64 = 1;

/// How many histories runs had, and of how many the search was given up.
#[derive(Debug, Default)]
pub struct Histories {
    /// All.
    pub all: u64,
    /// Given up.
    pub undecided: u64,
}

impl Histories {
    /// Adds what a run has said: "... 2 of 14 histories undecided".
    pub fn add(&mut self, text: &str) {
        for line in text.lines() {
            let Some(before) = line.strip_suffix(" histories undecided") else {
                continue;
            };
            let words: Vec<&str> = before.rsplitn(4, ' ').collect();
            if let [all, "of", undecided, _] = words.as_slice() {
                self.all += all.parse::<u64>().unwrap_or(0);
                self.undecided += undecided.parse::<u64>().unwrap_or(0);
            }
        }
    }

    /// Whether the check of histories says too little.
    #[must_use]
    pub fn are_too_many_undecided(&self) -> bool {
        self.undecided * 100 > self.all * UNDECIDED_PERCENT_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn undecided_histories_are_added_up() {
        let mut histories = Histories::default();
        histories.add("seed 1 hash 0, 40 metadata calls, 0 of 140 histories undecided\n");
        assert!(!histories.are_too_many_undecided());
        histories
            .add("seed 2 hash 0, 40 metadata calls, 2 of 10 histories undecided\nseed 2 BROKEN x");
        assert_eq!((histories.all, histories.undecided), (150, 2));
        assert!(histories.are_too_many_undecided());
    }
}
