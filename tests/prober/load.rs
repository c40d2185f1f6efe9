//! Many questions at once: how many answers a second, and how long each takes.

use std::{net::SocketAddr, time::Instant};

use crate::{
    ask::{self, ANSWER_BYTES, address, late, unbound},
    steps::{Probe, Refused, last, parsed},
};

type Done<T = ()> = Result<T, Refused>;

const WINDOW_MAX: u64 = 1_024;
const IDS: u64 = 65_536;

impl Probe {
    /// `load SERVER NAME FIRST NAMES COUNT WINDOW`: `{}` in the name stands for a number from `FIRST` on.
    /// Values: answers a second, median and 99th percentile in microseconds, answers without address.
    pub(crate) fn load(&mut self, words: &[&str]) -> Done {
        let [server, name, first, names, count, window] = words else {
            return Err("load SERVER NAME FIRST NAMES COUNT WINDOW".into());
        };
        let load = Load {
            server: address(server)?,
            name,
            first: parsed(first)?,
            names: parsed(names)?,
            count: parsed(count)?,
            window: parsed(window)?,
        };
        let values = load.run()?;
        self.values.extend(values.map(|value| value.to_string()));
        Ok(())
    }
}

struct Load<'a> {
    server: SocketAddr,
    name: &'a str,
    first: u64,
    names: u64,
    count: u64,
    window: u64,
}

impl Load<'_> {
    fn run(&self) -> Done<[f64; 4]> {
        let socket = unbound(self.server)?;
        socket.connect(self.server).map_err(|error| last(&error))?;
        // Made before the clock runs: what is measured is not how fast this program writes.
        let mut questions = (0..self.names.max(1))
            .map(|number| {
                let number = (self.first + number).to_string();
                ask::question(0, &self.name.replace("{}", &number), "A")
            })
            .collect::<Done<Vec<_>>>()?;
        let window = self.window.clamp(1, WINDOW_MAX);
        let mut sent_at = vec![None; usize::from(u16::MAX) + 1];
        let mut latencies = Vec::with_capacity(usize::try_from(self.count).unwrap_or_default());
        let (mut sent, mut done, mut failed) = (0_u64, 0_u64, 0_u64);
        let mut buffer = vec![0; ANSWER_BYTES];
        let places = questions.len() as u64;
        let began = Instant::now();
        while done < self.count {
            while sent < self.count && sent - done < window {
                let id = u16::try_from(sent % IDS).unwrap_or_default();
                let place = usize::try_from(sent % places).unwrap_or_default();
                let (Some(question), Some(slot)) =
                    (questions.get_mut(place), sent_at.get_mut(usize::from(id)))
                else {
                    break;
                };
                if let Some(head) = question.first_chunk_mut() {
                    *head = id.to_be_bytes();
                }
                *slot = Some(Instant::now());
                socket.send(question).map_err(|error| last(&error))?;
                sent += 1;
            }
            let length = socket.recv(&mut buffer).map_err(|error| late(&error))?;
            let Some(id) = ask::number(&buffer, 0) else {
                continue;
            };
            let slot = sent_at.get_mut(usize::from(id)).and_then(Option::take);
            let Some(asked) = slot else { continue };
            latencies.push(asked.elapsed().as_secs_f64() * 1e6);
            let answer = buffer.get(..length).unwrap_or_default();
            let answer = ask::read(answer, &id.to_be_bytes());
            if answer.is_none_or(|heard| heard.addresses.is_empty()) {
                failed += 1;
            }
            done += 1;
        }
        let seconds = began.elapsed().as_secs_f64();
        latencies.sort_unstable_by(f64::total_cmp);
        let at = |share: usize| {
            let place = latencies.len() * share / 100;
            latencies.get(place).copied().unwrap_or_default()
        };
        #[expect(clippy::cast_precision_loss, reason = "counts of a bench")]
        let (rate, failed) = (self.count as f64 / seconds, failed as f64);
        Ok([rate, at(50), at(99), failed])
    }
}
