//! Values that must not go down in real time.

/// A value that an operation told.
#[derive(Debug, Clone, Copy)]
pub struct Observation {
    pub op: u64,
    pub invoked: u64,
    pub returned: u64,
    pub value: i64,
}

/// A value that is lower than that of an operation which had ended before.
#[derive(Debug, Clone, Copy)]
pub struct Regression {
    pub earlier: Observation,
    pub later: Observation,
}

/// Every observation whose value is lower than one that had ended when it began. At one instant
/// the operation with the lower number is the earlier one, so all must be of one process.
#[must_use]
pub fn regressions(mut observations: Vec<Observation>) -> Vec<Regression> {
    let mut ended = observations.clone();
    ended.sort_unstable_by_key(|one| (one.returned, one.op));
    observations.sort_unstable_by_key(|one| (one.invoked, one.op));
    let mut found = Vec::new();
    let mut ended = ended.into_iter().peekable();
    let mut highest: Option<Observation> = None;
    for later in observations {
        let before = (later.invoked, later.op);
        while let Some(one) = ended.next_if(|one| (one.returned, one.op) < before) {
            if highest.is_none_or(|known| known.value < one.value) {
                highest = Some(one);
            }
        }
        if let Some(earlier) = highest.filter(|known| later.value < known.value) {
            found.push(Regression { earlier, later });
        }
    }
    found
}
