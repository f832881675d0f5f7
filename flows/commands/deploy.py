"""Serves a run under Prefect: `oscar-flow deploy`."""

from collections.abc import Sequence
from pathlib import Path
from typing import IO

from flows.config import read_config
from flows.errors import ConfigError, OrchestratorError
from flows.orchestration.settings import has_server, prepare_environment


def deploy_run(
    config: Path,
    settings: Sequence[str],
    out: Path,
    *,
    cron: str | None,
    every: float | None,
    stream: IO[str],
) -> None:
    """Look for new data when told to, retrain on it, and take runs from Prefect's pages.

    Args:
        config: a YAML file, or a shipped one by name.
        settings: `KEY=VALUE` on top of it.
        out: folder of the run.
        cron: when to look, in this machine's time zone.
        every: seconds between looks, instead.
        stream: where it is said what is served.

    Raises:
        ConfigError: The configuration or the times are wrong.
        OrchestratorError: No server, or it does not answer.
    """
    read_config(config, settings)  # mistakes are told now, not at three in the night
    if every is not None and every <= 0:
        raise ConfigError(f"--every: {every:g} seconds; give a time above 0")
    prepare_environment(out)
    if not has_server():
        raise OrchestratorError(
            "no Prefect server: start one with oscar-flow server --home "
            f"{out.parent / '.prefect'}, or name one in PREFECT_API_URL"
        )
    from flows.commands import served
    from flows.orchestration.deployments import Served, deployments_of, serve_deployments

    what = Served(
        config=str(config.absolute() if config.is_file() else config),
        out=out.absolute(),
        settings=tuple(settings),
        cron=cron,
        every=every,
    )
    deployments = deployments_of(what, check=served.check, retrain=served.retrain, run=served.run)
    when = f"by cron {cron}" if cron else f"every {every:g} s" if every else "by hand only"

    def tell(line: str) -> None:
        stream.write(f"{line}\n")
        stream.flush()

    tell(
        f"serving {out}: looks for new data {when}, retrains on it; to stop: Ctrl-C\n"
        f"versions  oscar-flow models list {out}"
    )
    serve_deployments(deployments, tell)
    tell("stopped serving; what is finished stays")
