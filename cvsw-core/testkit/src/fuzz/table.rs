//! The flow table: any sequence of operations, against [`Model`].

use crate::model::{Model, apply_to_table, compare};
use arbitrary::{Arbitrary, Result, Unstructured};
use cvsw_core::{
    Instant,
    flow::{
        Action, ActionList, Command, FLAG_CHECK_OVERLAP, FLAG_EMERG, Field, FlowKey, FlowMod, FlowTable, Match,
        OFPP_NONE,
    },
};
use zerocopy::FromZeros;

const FLOWS: usize = 16;
const MASKS: usize = 6;

/// Runs the operations that `data` encodes on the table and on the model; both must give the same results and
/// hold the same entries at every step.
pub fn table(data: &[u8]) {
    let mut table = FlowTable::new_box_zeroed().expect("memory for a table");
    let mut input = Unstructured::new(data);
    table.reset(input.arbitrary().unwrap_or(0));
    let mut both = Both { table, model: Model::new(FLOWS, MASKS), now: Instant::ZERO };
    while !input.is_empty() && both.step(&mut input).is_ok() {
        compare(&both.table, &both.model).unwrap_or_else(|difference| panic!("{difference}"));
    }
}

struct Both {
    table: Box<FlowTable<u64, FLOWS, MASKS>>,
    model: Model,
    now: Instant,
}

impl Both {
    fn step(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        match input.int_in_range(0..=7u8)? {
            0 => {
                let step = u64::from(input.int_in_range(0..=8u8)?) * 400_000_000;
                self.now = Instant::from_nanos(self.now.as_nanos() + step);
                self.table.expire(self.now, |_, _, _| {});
                self.model.expire(self.now);
            }
            1..=3 => self.look_up(&key(input)?),
            _ => {
                let change = flow_mod(input)?;
                let result = apply_to_table(&mut self.table, self.now, &change);
                assert_eq!(result, self.model.apply(self.now, &change), "{change:?}");
            }
        }
        Ok(())
    }

    fn look_up(&mut self, key: &FlowKey) {
        let id = self.table.lookup(key);
        let found = id.and_then(|id| self.table.get(id)).map(|entry| (self.table.matching(entry), entry.priority));
        let expected = self.model.lookup(key).map(|entry| (entry.flow.matching, entry.flow.priority));
        assert_eq!(found, expected, "look-up of {key:?}");
        if let Some(id) = id {
            self.table.hit(id, self.now, 100);
            self.model.hit(key, self.now, 100);
        }
    }
}

/// Few fields with few values, so that entries meet each other and frames meet entries.
fn key(input: &mut Unstructured<'_>) -> Result<FlowKey> {
    Ok(FlowKey::ZERO
        .with(Field::InPort, u64::from(input.int_in_range(1..=2u8)?))
        .with(Field::NwDst, u64::from(input.int_in_range(0..=3u8)?))
        .with(Field::TpDst, u64::from(input.int_in_range(0..=2u8)?)))
}

fn matching(input: &mut Unstructured<'_>) -> Result<Match> {
    let value = key(input)?;
    let mut mask = FlowKey::ZERO;
    for (field, choices) in
        [(Field::InPort, [0, u64::MAX, 0]), (Field::NwDst, [0, u64::MAX, !1]), (Field::TpDst, [0, u64::MAX, 2])]
    {
        mask.set(field, *input.choose(&choices)?);
    }
    Ok(Match::new(value, mask))
}

fn flow_mod(input: &mut Unstructured<'_>) -> Result<FlowMod> {
    let commands = [
        Command::Add,
        Command::Add,
        Command::Modify,
        Command::ModifyStrict,
        Command::Delete,
        Command::DeleteStrict,
    ];
    Ok(FlowMod {
        matching: matching(input)?,
        cookie: u8::arbitrary(input)?.into(),
        command: *input.choose(&commands)?,
        idle_timeout: *input.choose(&[0, 0, 1, 3])?,
        hard_timeout: *input.choose(&[0, 0, 2, 5])?,
        priority: input.int_in_range(0..=3)?,
        out_port: *input.choose(&[OFPP_NONE, OFPP_NONE, OFPP_NONE, 1])?,
        flags: *input.choose(&[0, 0, 1, FLAG_CHECK_OVERLAP, FLAG_EMERG])?,
        actions: ActionList::from_iter([Action::SetTpDst(input.arbitrary()?)]),
    })
}
