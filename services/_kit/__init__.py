"""What a business service is made of: the declaration, and the rules that hold for all of them.

`service.py` is the declaration, `record.py` what travels, `actor.py` who asks, `store.py` what a
handler may do to the database, `call.py` how one call runs, whoever carried it here: HTTP, GraphQL,
a job or a test.
"""
