//! Where a model's worker lives: started by a load, gone while the model is idle beyond the limit, started again by the
//! next request.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Instant;

use super::backend::cpu::{Cpu, CpuOptions};
use super::backend::{Backend, Description, PAGE_TOKENS};
use super::control::Control;
use super::error::{Result, error, fail};
use super::model::decoder::Decoder;
use super::model::identity::identity;
use super::model::load::{self, LoadOptions, LoadedModel, ModelSummary};
use super::options::{BackendChoice, ModelOptions, Precision};
use super::scheduler::{Exchange, Limits, Parcel, Parts, Scheduler, Submission};
use super::sync::Mutex;

/// A model's worker, there or to be had.
pub(super) struct Residence {
    /// What to load again.
    summary: ModelSummary,
    path: PathBuf,
    options: ModelOptions,
    backend: BackendChoice,
    limits: Limits,
    home: Mutex<Home>,
    pid: u32,
}

struct Home {
    scheduler: Arc<Scheduler>,
    closed: bool,
}

impl Residence {
    /// Starts the worker of a model that was loaded from `path`. Also says what computes it.
    pub fn found(
        path: &Path,
        loaded: LoadedModel,
        options: &ModelOptions,
        backend: BackendChoice,
        limits: Limits,
        control: Control,
    ) -> Result<(Self, Option<Description>)> {
        let summary = loaded.summary.clone();
        let (scheduler, device) = start(loaded, options, backend, limits, control)?;
        let home = Mutex::new(Home { scheduler: Arc::new(scheduler), closed: false });
        let options = ModelOptions { control: None, ..options.clone() };
        Ok((Self { summary, path: path.to_owned(), options, backend, limits, home, pid: std::process::id() }, device))
    }

    /// `Forked` in a child of the process that loaded the model.
    pub fn check_fork(&self) -> Result<()> {
        if self.pid != std::process::id() {
            fail!(Forked, "the model was loaded by process {} before it forked; load it in the child", self.pid)
        }
        Ok(())
    }

    /// Hands a request to the worker.
    pub fn submit(&self, request: Submission) -> Result<()> {
        self.hand(Parcel::Request(request))
    }

    /// Has the worker answer `question` between two steps.
    pub fn ask<T, Q>(&self, question: Q) -> Result<T>
    where
        T: Send + 'static,
        Q: FnOnce(&mut dyn Exchange) -> Result<T> + Send + 'static,
    {
        let (answer, outcome) = std::sync::mpsc::sync_channel(1);
        self.hand(Parcel::Errand(Box::new(move |exchange: &mut dyn Exchange| {
            // Who asked may be gone.
            let _ = answer.send(question(exchange));
        })))?;
        outcome.recv().unwrap_or_else(|_| Err(error!(State, "the model was freed")))
    }

    fn hand(&self, mut parcel: Parcel) -> Result<()> {
        self.check_fork()?;
        loop {
            let scheduler = self.home.lock().scheduler.clone();
            match scheduler.hand(parcel)? {
                None => return Ok(()),
                Some(back) => parcel = back,
            }
            self.load_again(&scheduler)?;
        }
    }

    /// Starts another worker in place of `gone`, which unloaded itself, unless somebody has done so.
    fn load_again(&self, gone: &Arc<Scheduler>) -> Result<()> {
        let mut home = self.home.lock();
        if home.closed {
            fail!(State, "the model was freed")
        }
        if !Arc::ptr_eq(&home.scheduler, gone) {
            return Ok(());
        }
        let began = Instant::now();
        let loaded = load::load(&self.path, &LoadOptions { weights: self.options.weights, control: None })?;
        if loaded.summary != self.summary {
            fail!(Format, "{}: no longer the model that was loaded and idle since", self.path.display())
        }
        let (scheduler, _) = start(loaded, &self.options, self.backend, self.limits, Control::new())?;
        log::info!("loaded {} again in {:.3} s", self.path.display(), began.elapsed().as_secs_f64());
        home.scheduler = Arc::new(scheduler);
        Ok(())
    }

    /// Ends the worker with everything that runs on it, and returns when it is gone. Nothing starts another.
    pub fn close(&self) {
        if self.pid != std::process::id() {
            return;
        }
        let mut home = self.home.lock();
        home.closed = true;
        let scheduler = home.scheduler.clone();
        drop(home);
        scheduler.close();
    }
}

/// A worker over what was loaded, and what computes it.
fn start(
    loaded: LoadedModel,
    options: &ModelOptions,
    backend: BackendChoice,
    limits: Limits,
    control: Control,
) -> Result<(Scheduler, Option<Description>)> {
    let (describe, description) = std::sync::mpsc::channel();
    let begin = Begin { limits, loaded, control, describe };
    let scheduler = match backend {
        BackendChoice::Mlx => on_mlx(begin, options)?,
        _ => {
            let exact = options.precision == Precision::Exact;
            let cpu = CpuOptions { threads: options.threads, exact, isa: None };
            begin.on(move || Cpu::new(cpu))?
        }
    };
    Ok((scheduler, description.recv().ok()))
}

/// What a worker begins with.
struct Begin {
    limits: Limits,
    loaded: LoadedModel,
    control: Control,
    describe: Sender<Description>,
}

impl Begin {
    /// Starts a scheduler over the backend that `make` makes in its thread.
    fn on<B: Backend>(self, make: impl FnOnce() -> Result<B> + Send + 'static) -> Result<Scheduler> {
        let Self { limits, loaded, control, describe } = self;
        Scheduler::start(limits, move || {
            let LoadedModel { spec, tensors, .. } = loaded;
            let backend = make()?;
            let _ = describe.send(backend.describe());
            let setting = format!("{}, {:?}, {PAGE_TOKENS} a page", backend.page_format(), limits.kv_type);
            let decoder = Decoder::new(&backend, spec.clone(), &tensors, &control)?;
            Ok(Parts { backend, decoder, identity: Box::new(move || identity(&spec, &tensors, &setting)) })
        })
    }
}

#[cfg(mlx)]
fn on_mlx(begin: Begin, options: &ModelOptions) -> Result<Scheduler> {
    use super::backend::mlx::{Mlx, MlxOptions};
    let half = begin.loaded.summary.dtype == super::weights::DType::F16;
    let mlx = MlxOptions { exact: options.precision == Precision::Exact, half };
    begin.on(move || Mlx::new(mlx))
}

#[cfg(not(mlx))]
fn on_mlx(_: Begin, _: &ModelOptions) -> Result<Scheduler> {
    fail!(Unsupported, "this build has no mlx backend")
}
