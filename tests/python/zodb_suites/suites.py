"""The suites to run, and the tests that are excused."""

from __future__ import annotations

# A suite is a module of ZODB's or ZEO's tests, or some classes of such a module.
SUITES: tuple[str, ...] = (
    "ZODB.tests.testFileStorage",
    "ZODB.FileStorage.tests",
    "ZODB.tests.test_racetest",
    "ZODB.tests.testblob",
    "ZODB.tests.testmvcc",
    "ZODB.tests.test_mvccadapter",
    "ZODB.tests.testConnection",
    "ZODB.tests.testDB",
    "ZODB.tests.testDemoStorage",
    "ZODB.tests.testRecover",
    "ZODB.tests.testZODB",
    "ZODB.tests.testConfig",
    "ZODB.tests.testThreadedShutdown",
    "ZODB.tests.testconflictresolution",
    "ZODB.tests.testhistoricalconnections",
    "ZODB.tests.testcrossdatabasereferences",
    "ZODB.tests.testfsoids",
    "ZODB.tests.test_fsdump",
    "ZODB.tests.test_doctest_files",
    "ZEO.tests.testZEO",
    # In the module, but commented out in ZEO's list of suites to save time.
    "ZEO.tests.testZEO:FileStorageTests",
    "ZEO.tests.testZEO:FileStorageHexTests",
    "ZEO.tests.testZEO:FileStorageClientHexTests",
    "ZEO.tests.testZEO2",
    "ZEO.tests.testConnection",
    "ZEO.tests.test_client_side_conflict_resolution",
    "ZEO.tests.testConversionSupport",
)

# Suites whose databases may be in any storage; with this suffix they are in a file instead of
# in memory.
ON_FILE = " on a file"
SUITES += tuple(
    f"ZODB.tests.{name}{ON_FILE}"
    for name in (
        "testConnection",
        "testDB",
        "testhistoricalconnections",
        "testcrossdatabasereferences",
        "test_cache",
        "testConnectionSavepoint",
        "testpersistentclass",
        "testPersistentWeakref",
    )
)

# In these suites, servers in separate processes must open our class.
ON_SERVERS = frozenset(
    suite
    for suite in SUITES
    if suite.startswith(("ZEO.tests.testZEO:", "ZEO.tests.testConnection"))
    or suite == "ZEO.tests.testZEO"
)

# Tests of private parts of ZODB's class, with the part.
_PACKER = (
    "replaces methods of ZODB's fspack.FileStoragePacker to fail; a disk that is full in a"
    " pack is tested on the simulated file system"
)
_READ_POOL = (
    "breaks the private pool of buffered files, _files, to show that testFlushAfterTruncate"
    " notices; that one passes, and there are no read buffers here"
)
_INTERFACES = (
    "wants the interfaces that ZODB's class declares and no other; ours declares"
    " ReadVerifyingStorage too, whose method both have"
)
EXCUSED = (
    {
        "ZODB.FileStorage.tests._save_index": (
            "calls the private _restore_index; reading a saved index is tested by opening"
        ),
        "ZODB.FileStorage.tests.pack_disk_full_copyRest": _PACKER,
        "ZODB.FileStorage.tests.pack_disk_full_copyToPacktime": _PACKER,
        "ZODB.tests.testDB.passing_a_file_name_to_DB": "prints the path of ZODB's class",
        "testFileStorage/ZODB.tests.testFileStorage.deal_with_finish_failures": (
            "replaces the private _finish_finish; a commit that fails midway is tested on the"
            " simulated file system"
        ),
    }
    | {
        f"testFileStorage/ZODB.tests.testFileStorage.{name}.testFlushNeededAfterTruncate": _READ_POOL
        for name in (
            "FileStorageTests",
            "FileStorageHexTests",
            "FileStorageTestsWithBlobsEnabled",
            "FileStorageHexTestsWithBlobsEnabled",
        )
    }
    | {
        f"{prefix}ZEO.tests.testZEO.{name}.checkInterfaceFromRemoteStorage": _INTERFACES
        for prefix, name in (
            ("FileStorageLoadDelayedTests/", "FileStorageLoadDelayedTests"),
            ("FileStorageSSLTests/", "FileStorageSSLTests"),
            ("", "FileStorageTests"),
            ("", "FileStorageHexTests"),
            ("", "FileStorageClientHexTests"),
        )
    }
)


def excuse(name: str) -> str | None:
    """Return why a test with this name need not pass, None if it must."""
    # Before ZODB 6 names of tests begin with "check".
    return EXCUSED.get(name) or EXCUSED.get(name.replace(".check", ".test"))
