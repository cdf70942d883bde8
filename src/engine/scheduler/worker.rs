//! The thread that owns the backend: admits, plans, executes, samples.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::flight::{Brief, Flight, Outcome};
use super::pages::{PagePool, first_visible, most_held, pages_for};
use super::plan::{StepPlan, plan};
use super::prefix::{PrefixCache, common};
use super::sequence::{Awaits, Ended, Goal, Row, Sequence, Submission, refuse};
use super::{Block, BlockId, Exchange, Inbox, InboxState, Limits, Parts};
use crate::engine::backend::{Backend, NO_PAGE, PAGE_TOKENS, PageId, Segment};
use crate::engine::defect;
use crate::engine::error::{Error, Result, Status, error, fail};
use crate::engine::memory;
use crate::engine::model::decoder::{Decoder, cache_layout};
use crate::engine::request::StopReason;
use crate::engine::sync::MutexGuard;
use crate::engine::trace;

/// How often readers that have fallen behind are looked after.
const PATIENCE: Duration = Duration::from_millis(5);

/// Everything the thread owns.
pub struct Worker<B: Backend> {
    backend: B,
    decoder: Decoder<B>,
    cache: B::Cache,
    pools: Vec<PagePool>,
    page_bytes: Vec<usize>,
    prefixes: PrefixCache,
    windows: Vec<Option<usize>>,
    limits: Limits,
    queued: VecDeque<Submission>,
    running: Vec<Sequence>,
    /// The step submitted last, where the backend computes while the next one is prepared.
    flight: Option<Flight<B::Act>>,
    /// Steps so far.
    steps: u64,
    /// Requests admitted so far.
    admitted: u64,
    logits: Vec<f32>,
    hidden: Vec<f32>,
    clear_epoch: u64,
    identity: Box<dyn Fn() -> [u8; 32]>,
    _alive: memory::Alive,
}

impl<B: Backend> Worker<B> {
    /// An idle worker. The budget is divided so that as many sequences as possible fit whole.
    pub fn new(parts: Parts<B>, limits: Limits) -> Result<Self> {
        let Parts { backend, decoder, identity } = parts;
        let (layout, windows) = cache_layout(decoder.spec(), limits.kv_type);
        let held = |window: &Option<usize>| most_held(limits.context, *window, limits.chunk);
        let one: u64 = windows.iter().enumerate().map(|(g, w)| (held(w) * layout.page_bytes(g)) as u64).sum();
        let sequences = (limits.kv_budget / one.max(1)).min(limits.sequences as u64) as usize;
        if sequences == 0 {
            fail!(
                Memory,
                "one context of {} positions takes {one} bytes of KV cache, the budget is {}",
                limits.context,
                limits.kv_budget
            )
        }
        let page_bytes: Vec<usize> = (0..windows.len()).map(|group| layout.page_bytes(group)).collect();
        let budget = limits.prefix_budget.unwrap_or(one) as usize;
        let prefixes = PrefixCache::new(windows.clone(), page_bytes.clone(), budget);
        let pools = windows.iter().map(|window| PagePool::new(sequences * held(window))).collect();
        let cache = backend.cache(&layout)?;
        let clear_epoch = memory::clear_epoch();
        let (queued, running, logits, hidden) = (VecDeque::new(), Vec::new(), Vec::new(), Vec::new());
        Ok(Self {
            backend,
            decoder,
            cache,
            pools,
            page_bytes,
            prefixes,
            windows,
            limits,
            queued,
            running,
            flight: None,
            steps: 0,
            admitted: 0,
            logits,
            hidden,
            clear_epoch,
            identity,
            _alive: memory::Alive::worker(),
        })
    }

    /// Serves until the inbox closes; then ends what still runs.
    pub fn serve(&mut self, inbox: &Inbox) {
        while self.receive(inbox) {
            self.retire();
            self.admit(inbox);
            if let Err(error) = self.step(inbox) {
                self.fail_all(&error);
            }
        }
        self.fail_all(&Error::new(Status::State, "the model was freed"));
        for request in self.queued.drain(..) {
            request
                .channel
                .send(super::Event::Failed(Error::new(Status::State, "the model was freed")), &Default::default());
        }
        self.prefixes.clear(&mut self.pools);
        debug_assert!(self.pools.iter().all(PagePool::is_idle), "somebody still holds a page or a promise");
    }

    /// Takes over what callers submitted; sleeps while there is nothing to do. `false` once the inbox closed.
    fn receive(&mut self, inbox: &Inbox) -> bool {
        let mut state = inbox.state.lock();
        while state.waiting.is_empty() && !state.closed {
            if !state.errands.is_empty() {
                state.resting = None;
                self.run_errands(&mut state);
            } else if self.running.is_empty() && self.queued.is_empty() && self.flight.is_none() {
                self.rest();
                if let Some(resting) = &mut state.resting {
                    resting.correct(self.held());
                }
                if state.resting.is_none() {
                    state.resting = Some(memory::rest(self.held()));
                    MutexGuard::unlocked(&mut state, memory::settle_idle);
                } else if state.unload {
                    // Under the lock: whoever comes now sees it and starts another worker.
                    state.closed = true;
                } else {
                    inbox.news.wait(&mut state);
                }
            } else if !self.running.is_empty() && self.running.iter().all(Sequence::waits) {
                // Readers do not tell when they catch up, nor do clocks and controls: look again soon.
                inbox.news.wait_for(&mut state, PATIENCE);
                break;
            } else {
                break;
            }
        }
        if !state.closed {
            (state.resting, state.unload) = (None, false);
            // However many requests arrive, between two steps there is time for these.
            self.run_errands(&mut state);
        }
        for request in state.waiting.drain(..) {
            // Stable by priority: behind the last that is at least as urgent.
            let place = self.queued.iter().rposition(|other| other.priority >= request.priority).map_or(0, |i| i + 1);
            self.queued.insert(place, request);
        }
        !state.closed
    }

    /// Does what was asked for, the inbox open meanwhile.
    fn run_errands(&mut self, state: &mut MutexGuard<'_, InboxState>) {
        let errands = std::mem::take(&mut state.errands);
        if !errands.is_empty() {
            MutexGuard::unlocked(state, || errands.into_iter().for_each(|errand| errand(self)));
        }
    }

    /// Bytes of weights and KV pages.
    fn held(&self) -> u64 {
        let pages = self.pools.iter().zip(&self.page_bytes).map(|(pool, bytes)| pool.high_water() * bytes);
        self.limits.weights + pages.sum::<usize>() as u64
    }

    /// Nothing runs: gives memory back where somebody asked for it.
    fn rest(&mut self) {
        let epoch = memory::clear_epoch();
        if epoch == self.clear_epoch {
            return;
        }
        self.clear_epoch = epoch;
        self.prefixes.clear(&mut self.pools);
        self.trim();
        (self.logits, self.hidden) = (Vec::new(), Vec::new());
        self.backend.release_unused();
    }

    /// Ends running and waiting requests that were cancelled, abandoned or are late.
    fn retire(&mut self) {
        for index in (0..self.running.len()).rev() {
            let Some(ended) = self.running[index].request.ended() else { continue };
            self.running[index].finish(match ended {
                Ended::Cancelled => StopReason::Cancelled,
                Ended::Deadline => StopReason::Deadline,
            });
            self.remove(index);
        }
    }

    /// Moves waiting requests into the running set, in order, while their pages can be promised.
    fn admit(&mut self, inbox: &Inbox) {
        let before = self.queued.len();
        self.queued.retain(|request| match request.ended() {
            Some(ended) => {
                refuse(request, ended);
                false
            }
            None => true,
        });
        let mut next = 0;
        while next < self.queued.len() && self.has_place(&self.queued[next]) {
            if self.is_being_computed(&self.queued[next].prompt) {
                next += 1;
                continue;
            }
            let Some(promised) = self.promise(self.queued[next].positions()) else { break };
            let Some(request) = self.queued.remove(next) else { break };
            self.admitted += 1;
            let mut sequence = Sequence::new(request, promised, self.admitted);
            match self.reuse(&mut sequence) {
                Ok(()) => {
                    sequence.metrics.cached_tokens = sequence.computed as u64;
                    self.running.push(sequence);
                }
                Err(error) => {
                    sequence.fail(error);
                    self.give_back(&sequence);
                }
            }
        }
        let left = before - self.queued.len();
        if left > 0 {
            inbox.state.lock().queued -= left;
        }
    }

    /// Whether the running set may grow by this request. Questions are short: more of them fill a step.
    fn has_place(&self, request: &Submission) -> bool {
        let generates = |goal: &Goal| matches!(goal, Goal::Generate(_));
        let generating = self.running.iter().filter(|sequence| generates(&sequence.request.goal)).count();
        match generates(&request.goal) {
            true => generating < self.limits.sequences,
            false => self.running.len() - generating < self.limits.questions(),
        }
    }

    /// Whether a running sequence will soon have computed more of this prompt's beginning than the cache has: then
    /// waiting for it is cheaper than computing the same again.
    fn is_being_computed(&self, prompt: &[u32]) -> bool {
        self.limits.prefix_budget != Some(0)
            && self.running.iter().filter(|leader| leader.request.keep_prefix).any(|leader| {
                let shared = common(&leader.tokens[..leader.prompt], &prompt[..prompt.len() - 1]);
                leader.submitted < shared / PAGE_TOKENS * PAGE_TOKENS
            })
    }

    /// Promises a sequence of `positions` its pages in every group, or in none.
    fn promise(&mut self, positions: usize) -> Option<Vec<usize>> {
        let wanted: Vec<usize> =
            self.windows.iter().map(|window| most_held(positions, *window, self.limits.chunk)).collect();
        let fits = self.pools.iter().zip(&wanted).all(|(pool, pages)| pool.can_commit(*pages));
        fits.then(|| {
            self.pools.iter_mut().zip(&wanted).for_each(|(pool, pages)| pool.commit(*pages));
            wanted
        })
    }

    /// Gives a sequence without pages what the prefix cache has of its tokens.
    fn reuse(&mut self, sequence: &mut Sequence) -> Result<()> {
        if let Goal::Evaluate(asking) = &sequence.request.goal
            && asking.needs_every_row()
        {
            return Ok(());
        }
        let hit = self.prefixes.find(&sequence.tokens, &mut self.pools);
        sequence.pages = hit.pages;
        sequence.cursor = hit.cursor;
        (sequence.computed, sequence.submitted) = (hit.tokens, hit.tokens);
        for (group, from) in hit.copy.into_iter().flatten().enumerate() {
            // Should the source be evicted for this very page, it is the page taken: its contents are right already.
            let to = self.take_page(group)?;
            sequence.pages[group].push(to);
            self.backend.resize(&mut self.cache, group, self.pools[group].high_water())?;
            if from != to && from != NO_PAGE {
                self.backend.copy_page(&mut self.cache, group, from, to)?;
            }
        }
        Ok(())
    }

    /// A page for a sequence that was promised one: free, or one that the prefix cache lets go of.
    fn take_page(&mut self, group: usize) -> Result<PageId> {
        loop {
            if let Some(page) = self.pools[group].take() {
                return Ok(page);
            }
            if !self.prefixes.evict(&mut self.pools) {
                fail!(Internal, "a promised KV page is missing")
            }
        }
    }

    /// Plans and submits one step, and reads the one before it; or itself, where the backend knows its outcome at once.
    fn step(&mut self, inbox: &Inbox) -> Result<()> {
        if self.running.iter().any(Sequence::must_roll) {
            self.land()?;
            self.roll();
        }
        while !self.running.is_empty() {
            let standings: Vec<_> = self.running.iter().map(Sequence::standing).collect();
            let plan = plan(&standings, self.limits.chunk);
            if plan.segments.is_empty() {
                break;
            }
            match self.provide_pages(&plan) {
                Ok(()) => {
                    let _step = trace::span("step", &[("rows", plan.rows()), ("sequences", plan.segments.len())]);
                    let submitted = self.submit(&plan, inbox);
                    self.land()?;
                    self.flight = submitted?;
                    let ahead = self.flight.as_ref().is_some_and(Flight::is_ahead);
                    return if ahead { Ok(()) } else { self.land() };
                }
                Err(error) if error.status() == Status::Memory && self.flight.is_some() => self.land()?,
                Err(error) if error.status() == Status::Memory => self.make_room(error),
                Err(error) => return Err(error),
            }
        }
        self.land()
    }

    /// Makes room in full contexts whose requests go on.
    fn roll(&mut self) {
        for index in (0..self.running.len()).rev() {
            if !self.running[index].must_roll() {
                continue;
            }
            let mut sequence = self.running.remove(index);
            for (pool, table) in self.pools.iter_mut().zip(&mut sequence.pages) {
                table.drain(..).for_each(|page| pool.leave(page));
            }
            sequence.drop_middle();
            match self.reuse(&mut sequence) {
                Ok(()) => self.running.insert(index, sequence),
                Err(error) => {
                    sequence.fail(error);
                    self.give_back(&sequence);
                }
            }
        }
    }

    /// The process's memory limit, or the system, refused pages that the budget allows: the prefix cache goes first,
    /// then the request that came last, so that the others go on.
    fn make_room(&mut self, error: Error) {
        if self.prefixes.is_empty() {
            let last = self.running.len() - 1;
            self.running[last].fail(error);
            self.remove(last);
        }
        self.prefixes.clear(&mut self.pools);
        self.trim();
    }

    /// Returns the memory of pages that nobody holds at the end of each pool.
    fn trim(&mut self) {
        for (group, pool) in self.pools.iter_mut().enumerate() {
            pool.trim();
            // Fails only where a page was taken whose memory was refused, and is refused again: the next step says so.
            let _ = self.backend.resize(&mut self.cache, group, pool.high_water());
        }
    }

    /// Makes sure that every position the step writes has a page with memory.
    fn provide_pages(&mut self, plan: &StepPlan) -> Result<()> {
        for segment in &plan.segments {
            for group in 0..self.windows.len() {
                let table = &mut self.running[segment.sequence].pages[group];
                let first = first_visible(segment.tokens.start, self.windows[group]).min(table.len());
                for page in &mut table[..first] {
                    self.pools[group].leave(std::mem::replace(page, NO_PAGE));
                }
                while self.running[segment.sequence].pages[group].len() < pages_for(segment.tokens.end) {
                    let page = self.take_page(group)?;
                    self.running[segment.sequence].pages[group].push(page);
                }
            }
        }
        for (group, pool) in self.pools.iter().enumerate() {
            self.backend.resize(&mut self.cache, group, pool.high_water())?;
        }
        Ok(())
    }

    /// Has the planned rows computed. `None` where nobody waits for them any more.
    fn submit(&mut self, plan: &StepPlan, inbox: &Inbox) -> Result<Option<Flight<B::Act>>> {
        let mut tokens = Vec::with_capacity(plan.rows());
        let mut segments = Vec::with_capacity(plan.segments.len());
        let (mut following, mut outcome) = (Vec::new(), Outcome::default());
        for planned in &plan.segments {
            let sequence = &self.running[planned.sequence];
            let rows = tokens.len()..tokens.len() + planned.tokens.len();
            match sequence.awaits {
                Awaits::Token(row) => {
                    following.push((tokens.len(), row));
                    tokens.push(0);
                }
                _ => tokens.extend_from_slice(&sequence.tokens[planned.tokens.clone()]),
            }
            outcome.want(sequence, &planned.tokens, rows.start);
            segments.push(Segment { rows, start: planned.tokens.start, pages: sequence.pages.clone() });
        }
        let running = &self.running;
        let mut somebody_waits = || {
            let gone = || plan.segments.iter().all(|planned| running[planned.sequence].request.ended().is_some());
            if inbox.closing.load(Relaxed) || gone() {
                Err(error!(Cancelled, "every request of the step ended"))
            } else {
                Ok(())
            }
        };
        let coming = self.flight.as_ref().and_then(Flight::coming).filter(|_| !following.is_empty());
        let embedded = self.decoder.embed(&self.backend, &tokens, coming.map(|coming| (coming, &following[..])))?;
        let hidden = self.decoder.forward_embedded(
            &self.backend,
            &mut self.cache,
            embedded,
            &segments,
            &outcome.rows,
            &mut somebody_waits,
        );
        let hidden = match hidden {
            // What the step wrote is overwritten if it runs again; the next round retires its requests.
            Err(error) if error.status() == Status::Cancelled => return Ok(None),
            hidden => hidden?,
        };
        let logits = match (&hidden, outcome.logits.len()) {
            (None, _) | (_, 0) => None,
            (Some(hidden), n) if n == outcome.rows.len() => Some(self.decoder.logits(&self.backend, hidden)?),
            (Some(hidden), _) => {
                let hidden = self.backend.select_rows(hidden, &outcome.logits)?;
                Some(self.decoder.logits(&self.backend, &hidden)?)
            }
        };
        let brief = match &logits {
            Some(logits) => self.summarise(plan, &outcome, logits)?,
            None => None,
        };
        self.backend.flush(&mut self.cache, brief.as_ref().and_then(Brief::coming))?;
        if let Some(hidden) = hidden.filter(|_| outcome.reads_hidden) {
            self.backend.read(&hidden, &mut self.hidden)?;
        }
        if let Some(logits) = logits.filter(|_| brief.is_none()) {
            self.backend.read(&logits, &mut self.logits)?;
        }
        self.steps += 1;
        let flight = Flight::new(self.steps, outcome, brief);
        Ok(Some(self.book(plan, flight)))
    }

    /// What the backend can say of the logits where no sequence needs the logits themselves.
    fn summarise(&self, plan: &StepPlan, outcome: &Outcome, logits: &B::Act) -> Result<Option<Brief<B::Act>>> {
        let (mut tokens, mut ends) = (Vec::new(), Vec::new());
        for (planned, share) in plan.segments.iter().zip(&outcome.shares) {
            let Some(rows) = self.running[planned.sequence].named(share.logits) else { return Ok(None) };
            for row in rows {
                tokens.extend(row.into_iter().map(|token| (ends.len(), token)));
                ends.push(tokens.len());
            }
        }
        Ok(self.backend.summarise(logits, &tokens)?.map(|summary| Brief { summary, ends }))
    }

    /// Enters into each sequence that its part of the step is submitted. Its pages can be found from now on: whoever
    /// uses them computes after this step.
    fn book(&mut self, plan: &StepPlan, mut flight: Flight<B::Act>) -> Flight<B::Act> {
        let ahead = flight.is_ahead();
        let mut row = 0;
        for (planned, share) in plan.segments.iter().zip(&flight.outcome.shares) {
            let sequence = &mut self.running[planned.sequence];
            (sequence.step, sequence.submitted) = (flight.step, planned.tokens.end);
            sequence.awaits = match (share.logits, share.hidden) {
                (0, false) => Awaits::Nothing,
                (1, false) if ahead => sequence.expects(planned.tokens.end, row),
                _ => Awaits::Outcome,
            };
            row += share.logits;
            flight.passengers.push((sequence.number, planned.tokens.clone()));
            if sequence.request.keep_prefix {
                let reusable = sequence.reusable().to_vec();
                self.prefixes.publish(&reusable, &sequence.pages, false, &mut sequence.cursor, &mut self.pools);
            }
        }
        flight
    }

    /// Reads the step in flight, if there is one: hands its rows to the sequences that still want them, and takes out
    /// those that are complete.
    fn land(&mut self) -> Result<()> {
        let Some(mut flight) = self.flight.take() else { return Ok(()) };
        if let Err(error) = flight.wait(&self.backend) {
            // Pages were entered whose contents never came.
            self.prefixes.clear(&mut self.pools);
            return Err(error);
        }
        let _span = trace::span("sampling", &[("rows", flight.outcome.logits.len())]);
        let (vocab, width) = (self.decoder.spec().vocab, self.decoder.spec().hidden);
        let mut logits: Box<dyn Iterator<Item = Row<'_>>> = match &flight.brief {
            Some(brief) => Box::new(brief.rows()),
            None => Box::new(self.logits.chunks_exact_mut(vocab).map(Row::All)),
        };
        let places: HashMap<u64, usize> = self.running.iter().enumerate().map(|(i, s)| (s.number, i)).collect();
        let mut complete = Vec::new();
        for ((number, tokens), share) in flight.passengers.iter().zip(&flight.outcome.shares) {
            let mut rows: Vec<Row<'_>> = logits.by_ref().take(share.logits).collect();
            // Gone where it ended since: by its token of the step before, a cancel, its deadline.
            let Some(&index) = places.get(number) else { continue };
            let sequence = &mut self.running[index];
            let hidden: Vec<&[f32]> = match share.hidden {
                true => share.rows.clone().map(|row| &self.hidden[row * width..(row + 1) * width]).collect(),
                false => Vec::new(),
            };
            let done = sequence.advance(tokens.clone(), &hidden, &mut rows);
            if sequence.step == flight.step {
                (sequence.submitted, sequence.awaits) = (sequence.computed, Awaits::Nothing);
            }
            if done {
                complete.push(index);
            }
        }
        drop(logits);
        complete.sort_unstable();
        for index in complete.into_iter().rev() {
            self.remove(index);
        }
        Ok(())
    }

    /// Ends every running request with the same error.
    fn fail_all(&mut self, error: &Error) {
        self.flight = None;
        for index in (0..self.running.len()).rev() {
            self.running[index].fail(error.clone());
            self.remove(index);
        }
    }

    /// Takes a sequence out of the running set; what it computed stays in the prefix cache.
    fn remove(&mut self, index: usize) {
        let mut sequence = self.running.remove(index);
        if sequence.request.keep_prefix {
            let reusable = sequence.reusable().to_vec();
            self.prefixes.publish(&reusable, &sequence.pages, true, &mut sequence.cursor, &mut self.pools);
        }
        self.give_back(&sequence);
    }

    /// Takes back a sequence's pages and what it was promised.
    fn give_back(&mut self, sequence: &Sequence) {
        for ((pool, table), committed) in self.pools.iter_mut().zip(&sequence.pages).zip(&sequence.committed) {
            for page in table {
                pool.leave(*page);
            }
            pool.release(*committed);
        }
    }
}

impl<B: Backend> Exchange for Worker<B> {
    fn identity(&self) -> [u8; 32] {
        (self.identity)()
    }

    fn page_bytes(&self) -> &[usize] {
        &self.page_bytes
    }

    fn blocks(&self) -> Vec<BlockId> {
        self.prefixes.blocks()
    }

    fn read(&self, id: BlockId) -> Result<Option<Block>> {
        let Some((tokens, parent, table)) = self.prefixes.block(id) else { return Ok(None) };
        let contents = |(group, page): (usize, &PageId)| match *page {
            NO_PAGE => Ok(None),
            page => self.backend.read_page(&self.cache, group, page).map(Some),
        };
        let pages = table.iter().enumerate().map(contents).collect::<Result<_>>()?;
        Ok(Some(Block { tokens: tokens.to_vec(), parent, pages }))
    }

    fn enter(&mut self, block: &Block) -> Result<Option<BlockId>> {
        let bytes = block.pages.iter().zip(&self.page_bytes).map(|(page, bytes)| page.as_ref().map_or(0, |_| *bytes));
        if !self.prefixes.takes(block.parent, bytes.sum()) {
            return Ok(None);
        }
        let mut table = vec![NO_PAGE; block.pages.len()];
        let outcome = self.fill(block, &mut table);
        let id = matches!(outcome, Ok(true))
            .then(|| self.prefixes.enter(block.parent, &block.tokens, &table, &mut self.pools));
        self.pools.iter_mut().zip(&table).for_each(|(pool, page)| pool.leave(*page));
        if id.is_none() {
            self.trim();
        }
        outcome.map(|_| id)
    }
}

impl<B: Backend> Worker<B> {
    /// Free pages with a block's contents; `false` when there are none left.
    fn fill(&mut self, block: &Block, table: &mut [PageId]) -> Result<bool> {
        for (group, contents) in block.pages.iter().enumerate() {
            let Some(contents) = contents else { continue };
            let Some(page) = self.pools[group].take() else { return Ok(false) };
            table[group] = page;
            self.backend.resize(&mut self.cache, group, self.pools[group].high_water())?;
            self.backend.write_page(&mut self.cache, group, page, contents)?;
        }
        Ok(true)
    }
}

/// A step that panics takes the worker down; whoever waits for it hears so.
impl<B: Backend> Drop for Worker<B> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let error = error!(Internal, "a step panicked: {}; load the model again", defect::latest());
            for sequence in &mut self.running {
                sequence.fail(error.clone());
            }
            for request in self.queued.drain(..) {
                request.channel.send(super::Event::Failed(error.clone()), &Default::default());
            }
        }
    }
}
