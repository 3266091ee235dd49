"""Everything that a code location needs, in one call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import dagster as dg

from batchor_core.core.exceptions import InvalidInputError
from batchor_dagster.asset import BatchAsset, checked_assets
from batchor_dagster.control import build_control_job
from batchor_dagster.resource import BatchorResource
from batchor_dagster.sensor import build_batch_sensor


def build_batch_operations(
    *,
    assets: Sequence[BatchAsset],
    resources: Mapping[str, Any] | None = None,
    sensor: dg.SensorDefinition | None = None,
    **sensor_settings: Any,
) -> dg.Definitions:
    """What batch assets need in addition: the sensor that drives their runs, the control job, the resource.

    For a project that passes the assets to Dagster itself::

        defs = dg.Definitions.merge(
            dg.load_definitions_from_module(shop),
            build_batch_operations(assets=[shop.reviews], resources={"batchor": BatchorResource(...)}),
        )

    Args:
        assets: What ``@batch_asset`` returned; all with one ``resource_key``.
        resources: Must have the :class:`BatchorResource`, here or in the definitions that this is merged with.
        sensor: Your own sensor instead of the default one.
        **sensor_settings: For :func:`build_batch_sensor`, such as ``minimum_interval_seconds`` or ``drive``.

    Raises:
        InvalidInputError: Two assets have one key; or the resource is something else, or has another key than the assets use.
    """
    if sensor is not None and sensor_settings:
        raise ValueError(
            f"{', '.join(sorted(sensor_settings))} would have no effect on the given sensor: pass it to "
            "build_batch_sensor(...), or leave sensor out"
        )
    assets = checked_assets(assets)
    keys = {asset.resource_key for asset in assets} or {"batchor"}
    if len(keys) > 1:
        raise ValueError(
            f"assets of one call share one resource, and these use {sorted(keys)}; call it once per resource and merge"
        )
    twice = [key for key, count in Counter(asset.key for asset in assets).items() if count > 1]
    if twice:
        raise InvalidInputError(
            f"two batch assets have the key {twice[0].to_user_string()}, and would share their runs: give one of them another "
            "name=... or key_prefix=... in @batch_asset"
        )
    resource_key = keys.pop()
    _check_resource(resource_key, resources or {})
    driver = sensor or build_batch_sensor(assets=assets, resource_key=resource_key, **sensor_settings)
    return dg.Definitions(
        jobs=[build_control_job(resource_key=resource_key)],
        sensors=[driver],
        resources=dict(resources or {}),
    )


def _check_resource(key: str, resources: Mapping[str, Any]) -> None:
    """Refuse resources that a run would fail on. The resource itself may be in the definitions that these are merged with."""
    if key in resources:
        given = resources[key]
        kind = getattr(given, "resource_cls", type(given))  # the former is that of configure_at_launch()
        if not issubclass(kind, BatchorResource | dg.ResourceDefinition):
            what = "the class itself" if isinstance(given, type) else f"of the type {kind.__name__}"
            raise InvalidInputError(
                f"resources[{key!r}] must be a BatchorResource, such as BatchorResource(root='data'); it is {what}"
            )
        return
    others = sorted(name for name, one in resources.items() if isinstance(one, BatchorResource))
    if others:
        raise InvalidInputError(
            f"the batch assets use the resource {key!r}, and resources has its BatchorResource under {others[0]!r}: rename it "
            f"there, or give @batch_asset(resource_key={others[0]!r})"
        )


def build_batch_definitions(
    *,
    assets: Sequence[BatchAsset],
    resources: Mapping[str, Any] | None = None,
    sensor: dg.SensorDefinition | None = None,
    other_assets: Iterable[Any] = (),
    asset_checks: Iterable[dg.AssetsDefinition] = (),
    jobs: Iterable[Any] = (),
    schedules: Iterable[Any] = (),
    sensors: Iterable[Any] = (),
    executor: dg.ExecutorDefinition | None = None,
    **sensor_settings: Any,
) -> dg.Definitions:
    """Definitions with batch assets, their checks, the sensor that drives them, and the control job.

    For parts of a larger project, join the result with ``dg.Definitions.merge(...)``. For assets that Dagster loads from a
    module, or that you list in your own definitions, use :func:`build_batch_operations`.

    Args:
        assets: What ``@batch_asset`` returned; all with one ``resource_key``.
        resources: Must have the :class:`BatchorResource`, here or in the definitions that this is merged with.
        sensor: Your own sensor instead of the default one.
        other_assets: Further assets of the code location.
        asset_checks: Further checks.
        jobs: Further jobs.
        schedules: Schedules.
        sensors: Further sensors.
        executor: How the steps of a Dagster run are executed, such as ``k8s_job_executor``; Dagster's own default if left out.
        **sensor_settings: For :func:`build_batch_sensor`, such as ``minimum_interval_seconds`` or ``drive``.
    """
    assets = checked_assets(assets)
    return dg.Definitions.merge(
        build_batch_operations(assets=assets, resources=resources, sensor=sensor, **sensor_settings),
        dg.Definitions(
            assets=[*(definition for asset in assets for definition in asset.assets), *other_assets],
            asset_checks=[*(check for asset in assets for check in asset.checks), *asset_checks],
            jobs=list(jobs),
            schedules=list(schedules),
            sensors=list(sensors),
            executor=executor,
        ),
    )
