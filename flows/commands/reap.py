"""Marks flow runs as crashed that Prefect still calls running: `oscar-flow doctor --reap`."""

from contextlib import suppress
from pathlib import Path

from flows.errors import OrchestratorError, RunLockedError
from flows.run_folder import RunFolder, locked


def reap_left_behind(run: RunFolder) -> None:
    """Give the flow run an end that a kill of this folder's last start left, where it did.

    For a start that has nothing to do, and so no other talk with Prefect. The lock is the caller's.
    """
    if not (run.path / "state" / "prefect.json").is_file():
        return
    from flows.orchestration.settings import has_server, prepare_environment

    prepare_environment(run.path)
    from contextlib import nullcontext

    from flows.orchestration.embedded import embedded_server
    from flows.orchestration.errors import SERVER_ERRORS
    from flows.orchestration.reaping import reap

    with suppress(*SERVER_ERRORS), nullcontext() if has_server() else embedded_server():
        reap(run)


def reap_runs(runs: Path) -> str:
    """Go through all run folders; where a killed run left word, give its flow run an end.

    Args:
        runs: folder of run folders, or one run folder.

    Returns:
        What was done, for the user.

    Raises:
        OrchestratorError: A server that must be told does not answer.
    """
    places = [*runs.glob("state/prefect.json"), *sorted(runs.glob("*/state/prefect.json"))]
    found = [path.parent.parent for path in places]
    if not found:
        return "nothing to reap: no run was killed under Prefect"
    from flows.orchestration.settings import prepare_environment

    prepare_environment(found[0])
    from contextlib import nullcontext

    from flows.orchestration.embedded import embedded_server
    from flows.orchestration.reaping import left_behind, reap
    from flows.orchestration.settings import has_server

    lines = []
    with nullcontext() if has_server() else embedded_server():
        for path in found:
            run = RunFolder(path)
            try:
                with locked(run):
                    left = left_behind(run)
                    num = reap(run)
            except RunLockedError:
                lines.append(f"{path}: runs")
                continue
            if left is not None and left_behind(run) is not None:
                server = left.api or "the embedded one"
                raise OrchestratorError(
                    f"{path}: its server, {server}, does not answer or is not the one of "
                    "PREFECT_API_URL; start it, set the variable, and do it again"
                )
            lines.append(f"{path}: {num} flow run{'' if num == 1 else 's'} marked")
    return "\n".join(lines)
