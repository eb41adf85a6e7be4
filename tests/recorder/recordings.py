"""What there is to record: a name, a database, and what the connector is told beyond the rig's own properties."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from recorder.oms import MAGENTO, SALEOR, SPREE, SYLIUS, Oms

AVRO_CONVERTER = "io.confluent.connect.avro.AvroConverter"
COMPACTED = {
    "cleanup.policy": "compact",
    "segment.ms": "1",
    "segment.index.bytes": "65536",
    "min.cleanable.dirty.ratio": "0.001",
}
FORGETFUL = {"delete.retention.ms": "1"}  # tombstones go with the compaction after the one that saw them
UNWRAP = {
    "transforms": "unwrap",
    "transforms.unwrap.type": "io.debezium.transforms.ExtractNewRecordState",
}


@dataclass(frozen=True, slots=True)
class Recording:
    """One recording of the small shop, or of `oms`. `properties` replace or join those of the rig's connector."""

    name: str
    properties: Mapping[str, str] = field(default_factory=dict)
    database: Literal["postgres", "mariadb", "mysql"] = "postgres"
    full_identity: tuple[str, ...] = ()
    compacted: Mapping[str, Mapping[str, str]] | None = None  # tables to topic settings: on a real Apache Kafka
    oms: Oms | None = None

    @property
    def avro(self) -> bool:
        """Whether messages are written in Avro, their schemas in a registry."""
        return AVRO_CONVERTER in self.properties.values()


RECORDINGS = {
    recording.name: recording
    for recording in (
        Recording(
            "u_unwrap_rewrite",
            UNWRAP
            | {
                "transforms.unwrap.delete.tombstone.handling.mode": "rewrite",
                "transforms.unwrap.add.fields": "op,table,lsn,source.ts_ms,source.snapshot,source.txId",
                "transforms.unwrap.add.headers": "op,lsn,source.ts_ms,db",
            },
        ),
        Recording(
            "u_unwrap_tombstone",
            UNWRAP
            | {
                "transforms.unwrap.delete.tombstone.handling.mode": "tombstone",
                "transforms.unwrap.add.fields": "op,source.ts_ms,lsn,db,table,snapshot",
            },
        ),
        Recording(
            "u_unwrap_bare",
            UNWRAP | {"key.converter.schemas.enable": "true", "value.converter.schemas.enable": "true"},
        ),
        Recording(
            "k_key_change_toast",
            {"message.key.columns": "public.order_lines:order_id"},
            full_identity=("refunds",),
        ),
        Recording("m_mariadb_json", database="mariadb"),
        Recording(
            "n_mariadb_schema_precise",
            {
                "key.converter.schemas.enable": "true",
                "value.converter.schemas.enable": "true",
                "decimal.handling.mode": "precise",
                "time.precision.mode": "adaptive_time_microseconds",
                "bigint.unsigned.handling.mode": "precise",
            },
            database="mariadb",
        ),
        Recording(
            "q_mysql_gtid",
            {"decimal.handling.mode": "precise", "provide.transaction.metadata": "true"},
            database="mysql",
        ),
        Recording(
            "y_avro",
            {"key.converter": AVRO_CONVERTER, "value.converter": AVRO_CONVERTER, "decimal.handling.mode": "precise"},
        ),
        Recording(
            "z_compacted",
            compacted={
                "customers": COMPACTED,
                "orders": COMPACTED,
                "order_lines": COMPACTED | FORGETFUL,
                "refunds": COMPACTED,
            },
        ),
        Recording("saleor", oms=SALEOR),
        Recording(
            "spree",
            {
                "key.converter.schemas.enable": "true",
                "value.converter.schemas.enable": "true",
                "decimal.handling.mode": "precise",
            },
            oms=SPREE,
        ),
        Recording("magento2", database="mariadb", oms=MAGENTO),
        Recording("sylius", oms=SYLIUS),
    )
}
