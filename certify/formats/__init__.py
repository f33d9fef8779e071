"""A case in the formats of other tools. Each says no more than the certificate does, and never a grade that was not verified.

    source.py      what is exported: a bundle, and the verifier's report if somebody gave a trust file
    text.py        words from a case as one line, as Markdown, as YAML
    document.py    JSON in one form, and signatures over documents that are not in the log
    oms.py         OpenSSF model signing v1.0: files of a model, signed by the issuer's key
    sigstore.py    sigstore bundle v0.3 around a statement
    claims.py      claims.jsonl: sigstore bundles, one a line, appended
    slsa.py        SLSA provenance v1
    cyclonedx.py   CycloneDX 1.7 ML-BOM
    modelcard.py   a section and metadata of a Hugging Face model card
    croissant.py   Croissant 1.0 metadata of the training data

Pure functions of bytes, but for claims.py, which appends to a file. None of them needs the other project's packages.
"""
