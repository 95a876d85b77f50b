//! `/tasks/{task}/series`: the figures of a task over time, for charts.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::problem::{Problem, ProblemCode, ProblemError};
use super::request::{Params, Segments};
use super::time::{parse_time, rfc3339};
use crate::observe::figures::{Aggregate, Figure};
use crate::observe::series::{Gather, Grid};
use crate::service::Service;
use crate::store::now_ms;

pub fn routes() -> OpenApiRouter<Service> {
    OpenApiRouter::new().routes(routes!(get_series)).routes(routes!(list_figures))
}

const HOUR_MS: i64 = 3_600_000;

/// One figure over time.
#[derive(Debug, Serialize, ToSchema)]
pub struct Series {
    pub name: &'static str,
    /// ms, rows/s, changes/s, bytes, messages, percent, ratio (0 to 1 for what one does; readers side by side add up), ...
    pub unit: &'static str,
    /// How the samples of a step became one.
    pub aggregate: Aggregate,
    /// One per time; null = no sample.
    pub values: Vec<Option<f64>>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct SeriesAnswer {
    /// Start of the first step; in.
    #[schema(format = DateTime)]
    pub from: String,
    /// End of the last step; out.
    #[schema(format = DateTime)]
    pub to: String,
    /// As asked for, or wider.
    pub step_ms: i64,
    /// Start of each step.
    #[schema(value_type = Vec<chrono::DateTime<chrono::Utc>>)]
    pub times: Vec<String>,
    pub series: Vec<Series>,
}

/// A figure that can be asked for.
#[derive(Debug, Serialize, ToSchema)]
pub struct FigureView {
    pub name: &'static str,
    pub unit: &'static str,
    pub aggregate: Aggregate,
    pub about: &'static str,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Figures {
    pub items: Vec<FigureView>,
}

/// Lists the figures that `/tasks/{task}/series` knows, with their units and meaning.
#[utoipa::path(get, path = "/system/series", tag = "system", responses((status = 200, body = Figures)))]
async fn list_figures(params: Params) -> Result<Json<Figures>, Problem> {
    std::future::ready(params.finish()).await?;
    let view = |figure: &Figure| FigureView {
        name: figure.name(),
        unit: figure.unit(),
        aggregate: figure.aggregate(),
        about: figure.about(),
    };
    Ok(Json(Figures { items: Figure::ALL.iter().map(view).collect() }))
}

/// Figures of a task over time, for charts: lag, rates, messages behind, memory, batch times, table counts and more.
///
/// Samples are taken every 10 seconds and kept for 3 hours, as minutes for 26 hours, as ten minutes for 15 days. The step is as
/// wide as that and the 1,500 points of an answer demand, or wider when asked for; `from` and `to` are widened to whole steps.
/// `GET /system/series` tells what each figure means.
#[utoipa::path(get, path = "/tasks/{task}/series", tag = "progress",
    params(
        ("task" = String, Path, description = "id or name"),
        ("from" = Option<String>, Query, description = "RFC 3339; default one hour before `to`"),
        ("to" = Option<String>, Query, description = "RFC 3339; default now"),
        ("step_ms" = Option<i64>, Query, minimum = 1, description = "default: as fine as possible"),
        ("names" = Option<String>, Query, description = "names of figures as `GET /system/series` lists them, divided by commas; default all"),
    ),
    responses((status = 200, body = SeriesAnswer)))]
async fn get_series(
    State(service): State<Service>,
    Segments(task): Segments<String>,
    mut params: Params,
) -> Result<Json<SeriesAnswer>, Problem> {
    let from = params.parsed("from", "a time in RFC 3339, with `+` of a zone written as %2B", parse_time);
    let to = params.parsed("to", "a time in RFC 3339, with `+` of a zone written as %2B", parse_time);
    let step = params.parsed("step_ms", "a number of milliseconds above 0", |text| {
        text.parse::<i64>().ok().filter(|step| (1..=i64::from(u32::MAX)).contains(step))
    });
    let names = params.parsed("names", "names that GET /system/series lists, divided by commas", |text| {
        text.split(',').map(|name| Figure::parse(name.trim())).collect::<Option<Vec<_>>>()
    });
    params.finish()?;
    let row = service.task(&task).await?;
    let now = now_ms();
    let to = to.unwrap_or(now);
    let from = from.unwrap_or(to.saturating_sub(HOUR_MS));
    let empty = || {
        let error = ProblemError::parameter("from", "invalid", "must be before `to`");
        Problem::faults(ProblemCode::InvalidParameter, vec![error])
    };
    // A part of a second is a second: times of charts are whole seconds.
    let step_s = step.map(|step| (step + 999) / 1000);
    let (from_s, to_s) = (from.div_euclid(1000), -(-to).div_euclid(1000));
    let grid =
        Grid::new(from_s, to_s, step_s, now.div_euclid(1000)).filter(|_| from < to).ok_or_else(empty)?;
    let kept_from = now.div_euclid(1000) - grid.tier.kept_s;
    let rows = service
        .store
        .series(&row.id, grid.tier, grid.from_s.max(kept_from), grid.to_s.min(now.div_euclid(1000) + 1))
        .await?;
    let mut points: Vec<Option<Gather>> = vec![None; grid.points()];
    for row in &rows {
        if let Some(point) = grid.point(row.at_s).and_then(|point| points.get_mut(point)) {
            point.get_or_insert_default().add(&row.sample, row.step_s as f64);
        }
    }
    let names = names.unwrap_or_else(|| Figure::ALL.to_vec());
    let series = names.into_iter().map(|figure| Series {
        name: figure.name(),
        unit: figure.unit(),
        aggregate: figure.aggregate(),
        values: points.iter().map(|point| point.as_ref()?.value(figure)).collect(),
    });
    Ok(Json(SeriesAnswer {
        from: rfc3339(grid.from_s * 1000),
        to: rfc3339(grid.to_s * 1000),
        step_ms: grid.step_s * 1000,
        series: series.collect(),
        times: (0..grid.points() as i64)
            .map(|point| rfc3339((grid.from_s + point * grid.step_s) * 1000))
            .collect(),
    }))
}
