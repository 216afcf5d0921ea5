// Uses the address in argv as a page with Apollo Client would; prints what it saw as JSON.
import { createHash } from 'node:crypto';
import { ApolloClient, ApolloLink, CombinedGraphQLErrors, gql, HttpLink, InMemoryCache } from '@apollo/client';
import { PersistedQueryLink } from '@apollo/client/link/persisted-queries';

const [url, guest, host, missing] = process.argv.slice(2);
const sent = [];
const watched = (address, options) => {
  sent.push({ method: options.method, query: (options.body ?? address).includes('guestListGuests') });
  return fetch(address, options);
};
const sha256 = (text) => createHash('sha256').update(text).digest('hex');
const cache = new InMemoryCache();
const client = new ApolloClient({
  cache,
  link: ApolloLink.from([
    new PersistedQueryLink({ sha256, useGETForHashedQueries: true }),
    new HttpLink({ uri: url, fetch: watched }),
  ]),
});
const GUESTS = gql`
  query Guests($limit: Int!) {
    guestListGuests(limit: $limit) {
      data { id name version host { id name } contact { ... on GuestListMail { address } } }
      nextCursor
    }
  }
`;
const RENAME = gql`
  mutation Rename($id: ID!, $input: GuestListNewGuestInput!) {
    guestListRename(id: $id, expectedVersion: 1, idempotencyKey: "apollo-1", input: $input) {
      id
      name
      version
    }
  }
`;
const GUEST = gql`
  query Guest($id: ID!) {
    guestListGuest(id: $id) { id name }
  }
`;

const ask = { query: GUESTS, variables: { limit: 2 }, fetchPolicy: 'network-only' };
const first = await client.query(ask);
const asked = sent.splice(0);
await client.query(ask);
const again = sent.splice(0);
await client.mutate({
  mutation: RENAME,
  variables: { id: guest, input: { name: 'renamed', hostId: host } },
});
const entities = Object.keys(cache.extract()).filter((key) => key.includes('_eu1_')).sort();
const renamed = client.readQuery({ query: GUESTS, variables: { limit: 2 } });
const failed = await client.query({ query: GUEST, variables: { id: missing }, errorPolicy: 'all' });
console.log(
  JSON.stringify({
    first: first.data.guestListGuests.data.map(({ name, host }) => [name, host.name]),
    asked,
    again,
    entities,
    renamed: renamed.guestListGuests.data[0].name,
    failed: {
      data: failed.data,
      known: CombinedGraphQLErrors.is(failed.error),
      codes: failed.error?.errors?.map(({ extensions }) => extensions.code),
    },
  }),
);
client.stop();
