"""GraphQL of the business services: `/v1/backend-api/graphql`, made from what services declare.

    Operation (services/_kit) ─▶ schema.py: Query and Mutation, types, links    once, at the start
    request ─▶ http_request.py ─▶ documents.py: parsed, validated, remembered
            ─▶ plan.py: fields and fragments merged, for one operation          remembered with it
            ─▶ cost.py ─▶ execute.py: Runtime.invoke a root field, then links level by level

graphql-core parses, validates and coerces; executing is ours. Only root fields and links do
anything, all else reads attributes of records that are there, so a plan needs no promise a field:
a third to a tenth of graphql-core's cost (`nexus bench graphql`), and links of one level are always
fetched together. Nothing here knows a service by name. Subscriptions are not here yet.
"""
