//! Many objects written or deleted one after the other, while a person looks on.

use k8s_openapi::api::core::v1::ObjectReference;
use serde_json::{Value, json};

use super::objects::{DryRun, Outcome, Place};
use super::wait;
use crate::kubectl::contexts::Target;
use crate::kubectl::output::{self, Format, Progress};

/// A command that changes a cluster: what it is told, and what it has done so far.
pub struct Steps {
    /// The cluster.
    pub target: Target,
    /// Whether it is done.
    pub dry_run: DryRun,
    /// How it is shown.
    pub format: Format,
    /// What is being done.
    pub progress: Progress,
    unchanged: usize,
    shown: Vec<Value>,
}

impl Steps {
    /// Nothing is done yet.
    pub fn new(target: Target, dry_run: DryRun, format: Format) -> Self {
        let progress = Progress::start(format!("asking {}", target.name));
        Self { target, dry_run, format, progress, unchanged: 0, shown: Vec::new() }
    }

    /// Applies objects in their order, and waits until those that are kinds can be used.
    ///
    /// # Errors
    /// The API server refuses one; those before it stay.
    pub async fn apply(&mut self, objects: &[Value]) -> anyhow::Result<()> {
        for object in objects {
            let place = Place::of(&self.target.client, object)?;
            self.progress.now(format!("applying {} in {}", place.full_name(), self.target.name));
            let outcome = place.apply(object, self.dry_run).await?;
            self.tell(&place.full_name(), object, outcome)?;
        }
        if self.dry_run == DryRun::None {
            for crd in objects.iter().filter(|object| object["kind"] == "CustomResourceDefinition") {
                let place = Place::of(&self.target.client, crd)?;
                self.progress.now(format!("waiting for {}", place.full_name()));
                wait::established(&place).await?;
            }
        }
        Ok(())
    }

    /// Deletes objects in their order, each gone before the next.
    ///
    /// # Errors
    /// The API server refuses, or one stays.
    pub async fn delete(&mut self, objects: &[Value]) -> anyhow::Result<()> {
        for object in objects {
            let place = Place::of(&self.target.client, object)?;
            self.progress.now(format!("deleting {} of {}", place.full_name(), self.target.name));
            let outcome = place.delete(self.dry_run).await?;
            if outcome == Outcome::Deleted && self.dry_run == DryRun::None {
                wait::gone(&place).await?;
            }
            self.tell(&place.full_name(), object, outcome)?;
        }
        Ok(())
    }

    /// Names objects that something else has changed, or would have.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn tell_all(&mut self, objects: &[ObjectReference], outcome: Outcome) -> anyhow::Result<()> {
        for object in objects {
            let object = json!({
                "apiVersion": object.api_version,
                "kind": object.kind,
                "metadata": { "name": object.name, "namespace": object.namespace },
            });
            self.tell(&Place::of(&self.target.client, &object)?.full_name(), &object, outcome)?;
        }
        Ok(())
    }

    fn tell(&mut self, name: &str, object: &Value, outcome: Outcome) -> anyhow::Result<()> {
        match (self.format, outcome) {
            (Format::Json | Format::Yaml, Outcome::Absent) => Ok(()),
            (Format::Json | Format::Yaml, _) => {
                self.shown.push(object.clone());
                Ok(())
            }
            (Format::Name, _) => self.progress.line(name),
            (Format::Table, Outcome::Unchanged | Outcome::Absent) => {
                self.unchanged += 1;
                Ok(())
            }
            (Format::Table | Format::Wide, _) => {
                self.progress.line(&format!("{name} {}{}", outcome.word(), self.dry_run.suffix()))
            }
        }
    }

    /// A line for people, which programs do not see.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn say(&self, text: &str) -> anyhow::Result<()> {
        if self.format.is_table() { self.progress.line(text) } else { Ok(()) }
    }

    /// Prints what was kept back.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn finish(&mut self) -> anyhow::Result<()> {
        if self.unchanged > 0 {
            self.say(&format!("{} objects needed no change", self.unchanged))?;
            self.unchanged = 0;
        }
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": std::mem::take(&mut self.shown) });
        match self.format {
            Format::Json => output::print(&output::json(&list)?),
            Format::Yaml => output::print(&output::yaml(&list)?),
            Format::Table | Format::Wide | Format::Name => Ok(()),
        }
    }
}
