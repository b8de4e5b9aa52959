"""Are the processes well, how far is each, and what is refused: for whoever runs the service."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row

from deploy.grafana.panels import Question, a_dashboard, at_least, graph, number, prometheus_variable

__all__ = ["operations"]

_RATE = "[$__rate_interval]"


def operations() -> Dashboard:
    """The dashboard."""
    made = a_dashboard(
        "rater-operations",
        "rater / operations",
        "Processes, lags and refusals. Whether bills are complete is in rater / billing completeness.",
        "now-6h",
        prometheus_variable(),
    )
    for part in (_state, _worker, _sink, _api, _collectors, _processes):
        made = part(made)
    return made


def _state(made: Dashboard) -> Dashboard:
    return (
        made.with_row(Row("Is it well?"))
        .with_panel(
            number(
                "Not ready",
                "Services whose /readyz is red. The page itself says why.",
                Question("count(rater_ready == 0) or vector(0)"),
                limits=at_least(1, 1),
            )
        )
        .with_panel(
            number(
                "Open gaps",
                "Gaps that are neither resolved nor accepted: no bill is made of their periods.",
                Question("max(rater_store_open_gaps)"),
                limits=at_least(1, 1),
            )
        )
        .with_panel(
            number(
                "Broken invariants",
                "What the last audit found: stored figures that do not agree with each other.",
                Question("max(sum by (instance) (rater_audit_violations))"),
                limits=at_least(1, 1),
            )
        )
        .with_panel(
            number(
                "Oldest checkpoint",
                "Since a partition's worker last wrote down where it is.",
                Question("max(time() - rater_worker_checkpoint_timestamp_seconds)"),
                "s",
                at_least(60, 300),
            )
        )
        .with_panel(
            number(
                "Sink behind",
                "Records that are not in the store yet, of all topics.",
                Question("sum(rater_sink_lag_records)"),
                limits=at_least(10_000, 100_000),
            )
        )
        .with_panel(
            number(
                "Disk free",
                "Of the store's fullest disk.",
                Question("min(rater_store_disk_free_bytes / rater_store_disk_size_bytes)"),
                "percentunit",
            )
        )
    )


def _worker(made: Dashboard) -> Dashboard:
    return (
        made.with_row(Row("Workers"))
        .with_panel(
            graph(
                "Samples taken",
                "By the workers, out of topic usage. None for a whole period means that nobody sends any.",
                [Question(f"sum(rate(rater_worker_samples_total{_RATE}))", "samples/s")],
                "cps",
            )
        )
        .with_panel(
            graph(
                "Behind topic usage",
                "Records that are not applied yet, by partition. One that only rises has no worker.",
                [Question("max by (partition) (rater_worker_lag_records)", "partition {{partition}}")],
            )
        )
        .with_panel(
            graph(
                "Age of the newest record applied",
                "Rises while nothing comes, too: look at the lag beside it.",
                [
                    Question(
                        "time() - max by (partition) (rater_worker_watermark_timestamp_seconds)",
                        "partition {{partition}}",
                    )
                ],
                "s",
            )
        )
        .with_panel(
            graph(
                "Checkpoints",
                "How long a cut takes: deciding, writing the snapshot, committing and publishing.",
                [
                    Question(
                        f"histogram_quantile(0.99, sum by (le) (rate(rater_worker_checkpoint_seconds_bucket{_RATE})))",
                        "99 of 100 within",
                    ),
                    Question(
                        f"sum(rate(rater_worker_checkpoint_seconds_sum{_RATE})) "
                        f"/ sum(rate(rater_worker_checkpoint_seconds_count{_RATE}))",
                        "mean",
                    ),
                ],
                "s",
            )
        )
        .with_panel(
            graph(
                "Frames in the state",
                "By status. Many that are open, of periods long over, are in the panel of overdue ones.",
                [Question("sum by (status) (rater_worker_frames)", "{{status}}")],
            )
        )
        .with_panel(
            graph(
                "Refused records",
                "By reason; each stands whole in topic rejected.",
                [Question(f"sum by (reason) (rate(rater_worker_rejected_records_total{_RATE}))", "{{reason}}")],
                "cps",
            )
        )
        .with_panel(
            graph(
                "Trouble",
                "Commits refused since another owns the partition, memberships that ended, checkpoints repeated.",
                [
                    Question("sum(increase(rater_worker_fenced_total[5m]))", "fenced"),
                    Question("sum(increase(rater_worker_restarts_total[5m]))", "restarts"),
                    Question("sum(increase(rater_worker_failed_checkpoints_total[5m]))", "checkpoints repeated"),
                    Question("sum(increase(rater_worker_restores_total[5m]))", "partitions restored"),
                ],
            )
        )
        .with_panel(
            graph(
                "Rating scripts",
                "Seconds of scripts per second, frames that wait for one, and frames that one failed on.",
                [
                    Question(f"sum(rate(rater_worker_script_seconds_sum{_RATE}))", "script seconds per second"),
                    Question("sum(rater_worker_waiting_scripts)", "frames that wait"),
                    Question("sum(increase(rater_worker_script_failures_total[5m]))", "frames failed in 5 minutes"),
                ],
            )
        )
    )


def _sink(made: Dashboard) -> Dashboard:
    return (
        made.with_row(Row("Sink and store"))
        .with_panel(
            graph(
                "Rows inserted",
                "By table. Nothing for long, while the workers take samples, is a sink that stands still.",
                [Question(f"sum by (table) (rate(rater_sink_rows_total{_RATE}))", "{{table}}")],
                "cps",
            )
        )
        .with_panel(
            graph(
                "Not stored yet",
                "Records of each topic that the sinks have not committed.",
                [Question("sum by (topic) (rater_sink_lag_records)", "{{topic}}")],
            )
        )
        .with_panel(
            graph(
                "From closing a frame to finding it",
                "In the store, by any reader.",
                [
                    Question(
                        f"histogram_quantile({part}, sum by (le) (rate(rater_sink_queryable_seconds_bucket{_RATE})))",
                        f"{int(part * 100)} of 100 within",
                    )
                    for part in (0.5, 0.99)
                ],
                "s",
            )
        )
        .with_panel(
            graph(
                "Refusals of the store",
                "Inserts that were repeated, and records that cannot be kept.",
                [
                    Question("sum by (reader) (increase(rater_sink_errors_total[5m]))", "{{reader}} repeated"),
                    Question("sum by (topic) (increase(rater_sink_rejected_total[5m]))", "{{topic}} not kept"),
                    Question("sum by (topic) (increase(rater_sink_lost_total[5m]))", "{{topic}} lost"),
                ],
            )
        )
    )


def _api(made: Dashboard) -> Dashboard:
    return (
        made.with_row(Row("API"))
        .with_panel(
            graph(
                "Requests",
                "By status. 429 is too much at once, 503 a Kafka or a store that is away.",
                [Question(f"sum by (status) (rate(rater_api_requests_total{_RATE}))", "{{status}}")],
                "reqps",
            )
        )
        .with_panel(
            graph(
                "Answers",
                "99 of 100 within, by route. Streams count to their end.",
                [
                    Question(
                        "histogram_quantile(0.99, "
                        f"sum by (le, route) (rate(rater_api_request_duration_seconds_bucket{_RATE})))",
                        "{{route}}",
                    )
                ],
                "s",
            )
        )
    )


def _collectors(made: Dashboard) -> Dashboard:
    return (
        made.with_row(Row("Collectors"))
        .with_panel(
            graph(
                "Behind",
                "Since the end of the last period that is proven whole, by source and metric.",
                [Question("max by (source, metric) (rater_collector_behind_seconds)", "{{source}} {{metric}}")],
                "s",
            )
        )
        .with_panel(
            graph(
                "Questions without a whole answer",
                "By reason. Each is asked again, and its periods stay open until then.",
                [
                    Question(
                        f"sum by (source, reason) (rate(rater_collector_failures_total{_RATE}))",
                        "{{source}} {{reason}}",
                    )
                ],
                "cps",
            )
        )
    )


def _processes(made: Dashboard) -> Dashboard:
    return (
        made.with_row(Row("Processes"))
        .with_panel(
            graph(
                "Memory",
                "Resident, of each process.",
                [Question("process_resident_memory_bytes * on (instance) group_left rater_build_info", "{{instance}}")],
                "bytes",
            )
        )
        .with_panel(
            graph(
                "Processor",
                "Cores in use, of each process.",
                [
                    Question(
                        f"rate(process_cpu_seconds_total{_RATE}) * on (instance) group_left rater_build_info",
                        "{{instance}}",
                    )
                ],
            )
        )
    )
