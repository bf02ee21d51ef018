//! What controllers write to each other, as bytes: letters from one session to another, which may lie for a while.

use std::collections::{BTreeMap, VecDeque};

use cvsw_controller::keys::note::Note;

use super::world::World;

/// Letters from one controller to another that may wait to be read, and notes of each.
const UNREAD: usize = 8;
const NOTES: usize = 100;

/// Letters between controllers, and whom they know.
#[derive(Default)]
pub struct Post {
    /// By writer and reader.
    letters: BTreeMap<(usize, usize), VecDeque<Letter>>,
    /// How often each controller has begun anew.
    sessions: BTreeMap<usize, u32>,
    /// Whom each controller knows, and in which session.
    known: BTreeMap<usize, BTreeMap<usize, u32>>,
    /// Per cent of steps at which a controller looks at nothing, or does not come to read what somebody wrote.
    pub sloth: u64,
}

struct Letter {
    from: u32,
    to: u32,
    notes: Vec<u8>,
}

fn name(at: usize) -> String {
    format!("c{at}")
}

impl Post {
    fn session(&self, at: usize) -> u32 {
        self.sessions.get(&at).copied().unwrap_or_default()
    }
}

impl World {
    /// A controller was out of the cluster and begins anew: nobody's letters to it, or of it, are for anybody.
    pub fn begin_session(&mut self, at: usize) {
        let now = self.now;
        *self.post.sessions.entry(at).or_default() += 1;
        self.post.known.remove(&at);
        self.post.letters.retain(|(from, _), _| *from != at);
        self.controller_at(at).meet(now, &BTreeMap::new());
    }

    /// Controllers look who is there, write and read.
    pub(super) fn correspond(&mut self) {
        let working = self.working();
        for &at in &working {
            if !self.is_slow() {
                self.look_around(at, &working);
            }
        }
        for &at in &working {
            let known = self.post.known.get(&at).cloned().unwrap_or_default();
            known.into_iter().for_each(|(to, session)| self.write(at, to, session));
        }
        for &to in &working {
            for &from in working.iter().filter(|from| **from != to) {
                if !self.is_slow() {
                    self.read(from, to);
                }
            }
        }
    }

    fn is_slow(&mut self) -> bool {
        let sloth = self.post.sloth;
        self.below(100) < sloth
    }

    fn look_around(&mut self, at: usize, working: &[usize]) {
        let others = working.iter().filter(|other| **other != at);
        let alive: BTreeMap<_, _> = others.map(|other| (*other, self.post.session(*other))).collect();
        let names = alive.iter().map(|(other, session)| (name(*other), session.to_string())).collect();
        self.post.known.insert(at, alive);
        let now = self.now;
        self.controller_at(at).meet(now, &names);
    }

    fn write(&mut self, from: usize, to: usize, session: u32) {
        let now = self.now;
        let lie = self.post.letters.get(&(from, to)).map_or(0, VecDeque::len);
        if lie >= UNREAD {
            return;
        }
        let mut notes = Vec::new();
        self.controller_at(from).take_notes(now, &name(to), NOTES).iter().for_each(|note| note.write(&mut notes));
        if !notes.is_empty() {
            let letter = Letter { from: self.post.session(from), to: session, notes };
            self.post.letters.entry((from, to)).or_default().push_back(letter);
        }
    }

    fn read(&mut self, from: usize, to: usize) {
        let now = self.now;
        let known = self.post.known.get(&to).and_then(|known| known.get(&from)).copied();
        let session = self.post.session(to);
        let mut letters = self.post.letters.remove(&(from, to)).unwrap_or_default();
        while letters.front().is_some_and(|letter| Some(letter.from) == known) {
            let Some(letter) = letters.pop_front() else { break };
            if letter.to != session {
                continue;
            }
            let mut rest = &letter.notes[..];
            while let Some((note, behind)) = (!rest.is_empty()).then(|| Note::read(rest).unwrap()) {
                self.controller_at(to).noted(now, &name(from), vec![note]);
                rest = behind;
            }
        }
        if !letters.is_empty() {
            self.post.letters.insert((from, to), letters);
        }
    }
}
