"""A signed Merkle log of opaque bytes, in the C2SP formats. It knows nothing of unlearning.

Nothing is imported here, so that verifying a proof never loads a database driver::

    from ledger.keyfile import generate_log_key
    from ledger.log import Log

    key = generate_log_key("example.com/log", Path("log.key"), password=b"...")
    log = Log.create(Path("log.db"), key)
    receipt = log.append(b"some entry")          # durable, included and signed on return
    print(log.prove(receipt.index).format())     # a C2SP tlog-proof
"""
