//! The gRPC services of a controller, put together from its parts. What they answer is in `api`.

use std::sync::Arc;

use hearth_node::grpc::{self, ClusterRouter};
use hearth_proto::internal::v1 as pb;

use super::{Parts, Stores};
use crate::api::admin::AdminService;
use crate::api::backup::BackupService;
use crate::api::catalog::CatalogService;
use crate::api::code::BlobsService;
use crate::api::control::ControlService;
use crate::api::follow::Followers;
use crate::api::forward::Controllers;
use crate::api::operations::Operations;
use crate::api::readers::Readers;
use crate::api::registry::RegistryService;
use crate::api::roles::Issuer;
use crate::api::trust::TrustService;
use crate::blobs::BlobPeerService;
use crate::leader;
use crate::mirror::Copies;
use crate::options::BlobStoreKind;

impl Parts {
    pub(super) fn router(&self, stores: &Stores, leader: &leader::LeaderWatch) -> ClusterRouter {
        let controllers = Controllers::new(
            self.consensus.clone(),
            self.seams.net.clone(),
            self.identity.clone(),
            self.options.channel.clone(),
        );
        let event_services = self.event_services(&controllers);
        let operations = self.operations(stores);
        let trust = self.trust(operations.clone());
        let control = ControlService {
            cluster_id: self.options.cluster_id.clone(),
            operations,
            leader: leader.clone(),
            controllers: controllers.clone(),
        };
        let readers = Readers::default();
        let accounts = self.options.accounts;
        let catalog = CatalogService {
            consensus: self.consensus.clone(),
            limits: pb::AccountLimits {
                concurrency: accounts.concurrency,
                requests_per_unit: accounts.requests_per_unit,
                scale_out: accounts.scale_out,
            },
            metrics: Arc::clone(&self.metrics),
            stop: self.shutdown.token(),
            readers: readers.clone(),
            followers: self.followers(),
            issuer: self.issuer(),
        };
        let registry = RegistryService::new(
            self.consensus.clone(),
            leader.clone(),
            self.shutdown.token(),
        );
        let admin = self.admin(leader, readers, controllers);
        let blobs = BlobsService {
            store: Arc::clone(&stores.store),
        };
        let backups = self.backups(stores);
        let max = self.options.server.max_message_size.as_usize();
        let control = pb::control_server::ControlServer::new(control)
            .max_decoding_message_size(max)
            .max_encoding_message_size(max);
        let registry = pb::worker_registry_server::WorkerRegistryServer::new(registry)
            .max_decoding_message_size(max);
        let (event_peers, event_log) = event_services;
        grpc::server(&self.options.server, &self.identity)
            .add_service(self.consensus.peer_service())
            .add_service(BlobPeerService::server(
                self.options.cluster_id.clone(),
                stores.local.clone(),
            ))
            .add_service(control)
            .add_service(pb::catalog_server::CatalogServer::new(catalog))
            .add_service(registry)
            .add_service(pb::cluster_admin_server::ClusterAdminServer::new(admin))
            .add_service(pb::blobs_server::BlobsServer::new(blobs))
            .add_service(pb::backups_server::BackupsServer::new(backups))
            .add_service(pb::trust_server::TrustServer::new(trust))
            .add_optional_service(event_peers)
            .add_optional_service(event_log)
    }

    fn admin(
        &self,
        leader: &leader::LeaderWatch,
        readers: Readers,
        controllers: Controllers,
    ) -> AdminService {
        AdminService {
            consensus: self.consensus.clone(),
            leader: leader.clone(),
            readers,
            events: self.events.clone(),
            copies: (self.options.blobs.store == BlobStoreKind::Local).then(|| Copies {
                cluster_id: self.options.cluster_id.clone(),
                consensus: self.consensus.clone(),
                controllers: controllers.clone(),
            }),
            controllers,
        }
    }

    fn issuer(&self) -> Arc<Issuer> {
        let key = &self.options.iam.session_key.0;
        let cluster_id = &self.options.cluster_id;
        Arc::new(Issuer::new(key, cluster_id, self.seams.clone()))
    }

    fn followers(&self) -> Followers {
        let followers = Followers::default();
        let (_, changes) = self.consensus.read(|m| m.subscribe());
        let task = followers.clone().run(changes, self.shutdown.token());
        self.shutdown.spawn("followers of functions", task);
        followers
    }

    fn backups(&self, stores: &Stores) -> BackupService {
        BackupService {
            cluster_id: self.options.cluster_id.clone(),
            consensus: self.consensus.clone(),
            clock: self.seams.clock.clone(),
            store: Arc::clone(&stores.store),
            is_shared: self.options.blobs.store == BlobStoreKind::S3,
            running: stores.backups.clone(),
            stop: self.shutdown.token(),
        }
    }

    fn operations(&self, stores: &Stores) -> Operations {
        Operations {
            consensus: self.consensus.clone(),
            clock: self.seams.clock.clone(),
            random: self.seams.random.clone(),
            metrics: Arc::clone(&self.metrics),
            blobs: Arc::clone(&stores.store),
        }
    }

    fn trust(&self, operations: Operations) -> TrustService {
        TrustService {
            cluster_id: self.options.cluster_id.clone(),
            tls: self.tls.clone(),
            ca_key: self.options.tls.ca_key.clone(),
            certificate_life: self.options.tls.certificate_life.0,
            operations,
        }
    }
}
